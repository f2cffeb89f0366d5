//! Whether a tree makes sense: types, numbers of arguments, matching. The checks and their
//! order are those of Prometheus, so that the first complaint is the same.

use pilothouse_model::labels::METRIC_NAME;

use crate::ast::{
    Aggregate, AggregateOp, Binary, Call, Cardinality, Kind, Node, Span, ValueType, VectorSelector,
};
use crate::error::ParseError;

type Checked = Result<(), ParseError>;

/// Checks a tree and settles what depends on types: set operators match many to many, and only
/// two instant vectors have a matching at all.
pub(crate) fn check(query: &str, node: &mut Node) -> Checked {
    Checker { query }.node(node)
}

struct Checker<'q> {
    query: &'q str,
}

impl Checker<'_> {
    fn fail(&self, span: Span, message: impl Into<String>) -> Checked {
        Err(ParseError::new(self.query, span, message))
    }

    fn node(&self, node: &mut Node) -> Checked {
        let span = node.span;
        match &mut node.kind {
            Kind::Number(_) | Kind::String(_) => Ok(()),
            Kind::Vector(selector) => self.selector(span, selector, false),
            Kind::Matrix(matrix) => self.selector(span, &matrix.selector, false),
            Kind::Subquery(subquery) => {
                self.node(&mut subquery.inner)?;
                match subquery.inner.value_type() {
                    ValueType::Vector => Ok(()),
                    other => {
                        let got = other.as_str();
                        self.fail(
                            span,
                            format!("subquery is only allowed on instant vector, got {got} instead"),
                        )
                    }
                }
            }
            Kind::Call(call) => self.call(span, call),
            Kind::Aggregate(aggregate) => self.aggregate(aggregate),
            Kind::Binary(binary) => self.binary(span, binary),
            Kind::Unary(unary) => {
                self.node(&mut unary.inner)?;
                match unary.inner.value_type() {
                    ValueType::Scalar | ValueType::Vector => Ok(()),
                    other => {
                        let what =
                            "unary expression only allowed on expressions of type scalar or instant vector";
                        self.fail(span, format!("{what}, got {:?}", other.documented()))
                    }
                }
            }
            Kind::Paren(inner) => self.node(inner),
        }
    }

    fn expect(&self, node: &mut Node, want: ValueType, context: &str) -> Checked {
        let got = node.value_type();
        self.node(node)?;
        if got == want {
            return Ok(());
        }
        let (want, got) = (want.documented(), got.documented());
        self.fail(node.span, format!("expected type {want} in {context}, got {got}"))
    }

    fn selector(&self, span: Span, selector: &VectorSelector, for_info: bool) -> Checked {
        if let Some(name) = &selector.name {
            let braces = selector.matchers.split_last().map_or(&[][..], |(_, rest)| rest);
            return match braces.iter().find(|m| m.name == METRIC_NAME) {
                Some(other) => {
                    let value = &other.value;
                    self.fail(span, format!("metric name must not be set twice: {name:?} or {value:?}"))
                }
                None => Ok(()),
            };
        }
        if !for_info && selector.matchers.iter().all(|m| m.matches_empty()) {
            return self.fail(span, "vector selector must contain at least one non-empty matcher");
        }
        Ok(())
    }

    fn aggregate(&self, aggregate: &mut Aggregate) -> Checked {
        self.expect(&mut aggregate.inner, ValueType::Vector, "aggregation expression")?;
        let Some(param) = &mut aggregate.param else { return Ok(()) };
        let want = match aggregate.op {
            AggregateOp::CountValues => ValueType::String,
            _ => ValueType::Scalar,
        };
        self.expect(param, want, "aggregation parameter")
    }

    fn call(&self, span: Span, call: &mut Call) -> Checked {
        self.arity(span, call)?;
        let function = call.function;
        let is_info = function.name == "info";
        if is_info && let Some(labels) = call.args.get(1) {
            self.info_labels(span, labels)?;
        }
        for (i, arg) in call.args.iter_mut().enumerate() {
            let Some(want) = function.args.get(i).or(function.args.last()) else { break };
            if let (true, 1, Kind::Vector(selector)) = (is_info, i, &arg.kind) {
                self.selector(arg.span, selector, true)?;
                continue;
            }
            self.expect(arg, *want, &format!("call to function {:?}", function.name))?;
        }
        Ok(())
    }

    fn arity(&self, span: Span, call: &Call) -> Checked {
        let (name, got, wanted) = (call.function.name, call.args.len(), call.function.args.len());
        let variadic = call.function.variadic;
        let message = if variadic == 0 {
            (wanted != got).then(|| format!("expected {wanted} argument(s) in call to {name:?}, got {got}"))
        } else {
            let least = wanted - 1;
            let most = usize::try_from(variadic).map_or(usize::MAX, |extra| least + extra);
            if got < least {
                Some(format!("expected at least {least} argument(s) in call to {name:?}, got {got}"))
            } else {
                (got > most)
                    .then(|| format!("expected at most {most} argument(s) in call to {name:?}, got {got}"))
            }
        };
        message.map_or(Ok(()), |message| self.fail(span, message))
    }

    fn info_labels(&self, call: Span, labels: &Node) -> Checked {
        let got = labels.value_type();
        if got != ValueType::Vector {
            let (want, got) = (ValueType::Vector.documented(), got.documented());
            let message = format!("expected type {want} in call to function \"info\", got {got}");
            return self.fail(call, message);
        }
        match &labels.kind {
            Kind::Vector(selector) if selector.name.is_some() => {
                self.fail(labels.span, "expected label selectors only, got vector selector instead")
            }
            Kind::Vector(_) => Ok(()),
            _ => self.fail(labels.span, "expected label selectors only"),
        }
    }

    fn binary(&self, span: Span, binary: &mut Binary) -> Checked {
        let (lt, rt) = (binary.lhs.value_type(), binary.rhs.value_type());
        self.node(&mut binary.lhs)?;
        self.node(&mut binary.rhs)?;
        let op = binary.op;
        let operator = self.operator_span(binary);
        if binary.return_bool && !op.is_comparison() {
            return self.fail(operator, "bool modifier can only be used on comparison operators");
        }
        let both_scalars = lt == ValueType::Scalar && rt == ValueType::Scalar;
        if op.is_comparison() && !binary.return_bool && both_scalars {
            return self.fail(operator, "comparisons between scalars must use BOOL modifier");
        }
        let Some(matching) = &mut binary.matching else { return Ok(()) };
        if op.is_set() && matching.card == Cardinality::OneToOne {
            matching.card = Cardinality::ManyToMany;
        }
        if matching.on
            && let Some(label) = matching.labels.iter().find(|l| matching.include.contains(l))
        {
            let message = format!("label {label:?} must not occur in ON and GROUP clause at once");
            return self.fail(operator, message);
        }
        for (side, of) in [(binary.lhs.span, lt), (binary.rhs.span, rt)] {
            if !matches!(of, ValueType::Scalar | ValueType::Vector) {
                return self
                    .fail(side, "binary expression must contain only scalar and instant vector types");
            }
        }
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if lt != ValueType::Vector || rt != ValueType::Vector {
            if !matching.labels.is_empty() {
                return self.fail(span, "vector matching only allowed between instant vectors");
            }
            if fills {
                return self.fail(span, "filling in missing series only allowed between instant vectors");
            }
            binary.matching = None;
        } else if op.is_set() {
            if matching.card != Cardinality::ManyToMany {
                return self.fail(span, format!("no grouping allowed for {:?} operation", op.as_str()));
            }
            if fills {
                return self.fail(span, "filling in missing series not allowed for set operators");
            }
        }
        if op.is_set() && (lt == ValueType::Scalar || rt == ValueType::Scalar) {
            let message = format!("set operator {:?} not allowed in binary scalar expression", op.as_str());
            return self.fail(span, message);
        }
        Ok(())
    }

    /// Where the operator stands, between its sides.
    fn operator_span(&self, binary: &Binary) -> Span {
        let (from, to) = (binary.lhs.span.end as usize, binary.rhs.span.start as usize);
        let between = self.query.get(from..to).unwrap_or("");
        let start = from + (between.len() - between.trim_start().len());
        Span::new(start, to)
    }
}
