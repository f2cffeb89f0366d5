//! Makes a query ready for one grid of times: durations are worked out, `@` and offsets folded,
//! constants put in place, what does not change over the grid is marked, and every selector
//! learns which labels anything above it will look at.

use std::collections::BTreeSet;

use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use pilothouse_model::{LabelNeeds, Labels, LabelsBuilder, MatchOp, Matcher};
use pilothouse_query::vectors::Grouping;

use crate::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Extended, Kind, Node, Span, Subquery, TimeShift,
    ValueType, VectorSelector,
};
use crate::dates::DatePart;
use crate::durations::GridSpan;
use crate::error::{EvalError, execution};
use crate::plan::{
    AggregatePlan, BinaryPlan, HistogramNumber, InfoPlan, LabelJoin, LabelReplace, Plan, PlanKind,
    QueryTimes, RangePlan, RangeSource, Root, SelectorPlan, SubqueryPlan,
};
use crate::range_functions::RangeFunction;
use crate::scalars::Elementwise;

pub(crate) fn plan(root: &Node, times: QueryTimes) -> Result<Root, EvalError> {
    let planner = Planner { times };
    match &root.unwrap_parens().kind {
        Kind::Matrix(matrix) => {
            let selector = planner.selector(&matrix.selector, &Needs::EVERYTHING)?;
            let range_ms = planner.duration(&matrix.range, false)?;
            Ok(Root::Matrix { selector, range_ms })
        }
        Kind::Subquery(subquery) => {
            let (subquery, range_ms, _) = planner.subquery(subquery, &Needs::EVERYTHING)?;
            Ok(Root::Subquery { subquery, range_ms })
        }
        _ => Ok(Root::Expression(planner.node(root, &Needs::EVERYTHING)?.once())),
    }
}

/// What something above a node looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Needs {
    labels: NeededLabels,
    buckets: NeededBuckets,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NeededLabels {
    All,
    Only(BTreeSet<String>),
}

/// Whether only count and sum of native histograms matter: a function that reads no more stands
/// above, and nothing that needs the buckets anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NeededBuckets {
    Unsaid,
    No,
    Yes,
}

impl Needs {
    const EVERYTHING: Self = Self { labels: NeededLabels::All, buckets: NeededBuckets::Unsaid };

    fn all_labels(&self) -> Self {
        Self { labels: NeededLabels::All, ..*self }
    }

    fn only(&self, names: impl IntoIterator<Item = String>) -> Self {
        Self { labels: NeededLabels::Only(names.into_iter().collect()), ..*self }
    }

    fn and(&self, names: impl IntoIterator<Item = String>) -> Self {
        match &self.labels {
            NeededLabels::All => self.clone(),
            NeededLabels::Only(known) => self.only(known.iter().cloned().chain(names)),
        }
    }

    fn without(&self, name: &str) -> Self {
        match &self.labels {
            NeededLabels::All => self.clone(),
            NeededLabels::Only(names) => self.only(names.iter().filter(|n| *n != name).cloned()),
        }
    }

    fn buckets(self, buckets: NeededBuckets) -> Self {
        if self.buckets == NeededBuckets::Yes { self } else { Self { buckets, ..self } }
    }

    fn as_label_needs(&self) -> LabelNeeds {
        match &self.labels {
            NeededLabels::All => LabelNeeds::All,
            NeededLabels::Only(names) => LabelNeeds::Only(names.iter().cloned().collect()),
        }
    }
}

/// A planned node with what its parent must know.
struct Planned {
    plan: Plan,
    /// The same at every step.
    invariant: bool,
    /// Worth evaluating once if the parent is not invariant itself.
    wrap: bool,
}

impl Planned {
    /// The plan, evaluated once where that makes sense.
    fn once(self) -> Plan {
        if self.wrap {
            Plan { span: self.plan.span, kind: PlanKind::Invariant(Box::new(self.plan)) }
        } else {
            self.plan
        }
    }
}

/// Functions whose value depends on the time of the step even if no argument does, or on the
/// time of their argument's samples.
fn depends_on_step(name: &str) -> bool {
    matches!(name, "predict_linear" | "time" | "timestamp") || DatePart::from_function(name).is_some()
}

struct Planner {
    times: QueryTimes,
}

impl Planner {
    fn duration(&self, duration: &crate::ast::Duration, may_be_negative: bool) -> Result<i64, EvalError> {
        let range_ms = self.times.end_ms.saturating_sub(self.times.start_ms);
        let grid = GridSpan { step_ms: self.times.step_ms, range_ms };
        duration.resolve_ms(grid, may_be_negative).map_err(EvalError::Execution)
    }

    fn node(&self, node: &Node, needs: &Needs) -> Result<Planned, EvalError> {
        let span = node.span;
        let constant = |kind| Planned { plan: Plan { span, kind }, invariant: true, wrap: false };
        match &node.kind {
            Kind::Number(literal) => Ok(constant(PlanKind::Number(literal.value))),
            Kind::String(text) => Ok(constant(PlanKind::Text(text.clone()))),
            Kind::Paren(inner) => self.node(inner, needs),
            Kind::Vector(selector) => {
                let selector = self.selector(selector, needs)?;
                let invariant = selector.at_ms.is_some();
                let plan = Plan { span, kind: PlanKind::Selector(selector) };
                Ok(Planned { plan, invariant, wrap: invariant })
            }
            Kind::Unary(unary) if !unary.minus => self.node(&unary.inner, needs),
            Kind::Unary(unary) => {
                let Planned { plan, invariant, wrap } = self.node(&unary.inner, needs)?;
                Ok(Planned { plan: Plan { span, kind: PlanKind::Negate(Box::new(plan)) }, invariant, wrap })
            }
            Kind::Aggregate(aggregate) => self.aggregate(span, aggregate, needs),
            Kind::Binary(binary) => self.binary(span, binary, needs),
            Kind::Call(call) => self.call(span, call, needs),
            // The check lets range vectors stand only at the top or in functions that want one.
            Kind::Matrix(_) | Kind::Subquery(_) => execution("a range vector cannot be evaluated here"),
        }
    }

    fn selector(&self, selector: &VectorSelector, needs: &Needs) -> Result<SelectorPlan, EvalError> {
        let (offset_ms, at_ms) = self.shift(&selector.time)?;
        let fixed_name = selector
            .matchers
            .iter()
            .find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal)
            .map(|m| m.value.clone());
        Ok(SelectorPlan {
            matchers: selector.matchers.clone(),
            needs: needs.as_label_needs(),
            offset_ms,
            at_ms,
            extended: selector.extended,
            fixed_name,
            statistics_only: needs.buckets == NeededBuckets::No,
        })
    }

    fn shift(&self, time: &TimeShift) -> Result<(i64, Option<i64>), EvalError> {
        let offset_ms = time.offset.as_ref().map_or(Ok(0), |offset| self.duration(offset, true))?;
        let at_ms = time.at.map(|at| match at {
            At::Time { t_ms } => t_ms,
            At::Start => self.times.start_ms,
            At::End => self.times.end_ms,
        });
        Ok((offset_ms, at_ms))
    }

    fn subquery(&self, subquery: &Subquery, needs: &Needs) -> Result<(SubqueryPlan, i64, bool), EvalError> {
        let inner = self.node(&subquery.inner, &needs.clone().buckets(NeededBuckets::Yes))?;
        // Constants are worth it here, too: the grid inside may be long.
        let wrap = inner.invariant;
        let inner = Box::new(Planned { wrap, ..inner }.once());
        let (offset_ms, at_ms) = self.shift(&subquery.time)?;
        let step_ms = subquery.step.as_ref().map(|step| self.duration(step, false)).transpose()?;
        let range_ms = self.duration(&subquery.range, false)?;
        // A step that rounds to nothing counts as not said, as in Prometheus.
        let step_ms = step_ms.filter(|step| *step > 0);
        Ok((SubqueryPlan { inner, step_ms, offset_ms, at_ms }, range_ms, at_ms.is_some()))
    }

    fn aggregate(&self, span: Span, aggregate: &Aggregate, needs: &Needs) -> Result<Planned, EvalError> {
        let mut names = aggregate.grouping.clone();
        let param = aggregate.param.as_ref().map(Node::unwrap_parens);
        let value_label = match (aggregate.op, param.map(|p| &p.kind)) {
            (AggregateOp::CountValues, Some(Kind::String(label))) => {
                if label.is_empty() {
                    return execution(format!("invalid label name {label:?}"));
                }
                if !aggregate.without {
                    names.push(label.clone());
                }
                Some(label.clone())
            }
            _ => None,
        };
        let inner_needs = match (aggregate.op, aggregate.without) {
            // These hand on whole series.
            (AggregateOp::TopK | AggregateOp::BottomK, _) => needs.and(names.clone()),
            (AggregateOp::LimitK | AggregateOp::LimitRatio | AggregateOp::CountValues, _) => {
                needs.all_labels()
            }
            (_, true) => needs.all_labels(),
            (_, false) => needs.only(names.clone()),
        };
        let inner = self.node(aggregate.inner.unwrap_parens(), &inner_needs)?;
        let param = match (param, &value_label) {
            (Some(param), None) => Some(self.node(param, &needs.all_labels())?.once()),
            _ => None,
        };
        let (invariant, wrap) = (inner.invariant, inner.wrap);
        let aggregate = AggregatePlan {
            op: aggregate.op,
            grouping: Grouping::new(names, aggregate.without),
            value_label,
            param,
            inner: inner.plan,
        };
        let kind = PlanKind::Aggregate(Box::new(aggregate));
        Ok(Planned { plan: Plan { span, kind }, invariant, wrap })
    }

    fn binary(&self, span: Span, binary: &Binary, needs: &Needs) -> Result<Planned, EvalError> {
        let scalar_side =
            binary.lhs.value_type() == ValueType::Scalar || binary.rhs.value_type() == ValueType::Scalar;
        // Messages about matching show whole label sets.
        let mut needs = if scalar_side { needs.clone() } else { needs.all_labels() };
        if matches!(binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
            needs = needs.buckets(NeededBuckets::Yes);
        }
        let lhs = self.node(&binary.lhs, &needs)?;
        let rhs = self.node(&binary.rhs, &needs)?;
        let invariant = lhs.invariant && rhs.invariant;
        let side = |planned: Planned| if invariant { planned.plan } else { planned.once() };
        let plan = BinaryPlan {
            op: binary.op,
            return_bool: binary.return_bool,
            matching: binary.matching.clone(),
            lhs: side(lhs),
            rhs: side(rhs),
            types: (binary.lhs.value_type(), binary.rhs.value_type()),
        };
        let plan = Plan { span, kind: PlanKind::Binary(Box::new(plan)) };
        Ok(Planned { plan, invariant, wrap: invariant })
    }

    fn call(&self, span: Span, call: &Call, needs: &Needs) -> Result<Planned, EvalError> {
        if let Some(value) = self.query_constant(call.function.name) {
            let plan = Plan { span, kind: PlanKind::Number(value) };
            return Ok(Planned { plan, invariant: true, wrap: false });
        }
        if let Some(function) = RangeFunction::from_name(call.function.name) {
            return self.range_call(span, call, function, needs);
        }
        let inner_needs = Self::needs_of_arguments(call, needs);
        let args: Vec<&Node> = call.args.iter().map(Node::unwrap_parens).collect();
        let mut planned = Vec::with_capacity(args.len());
        for arg in &args {
            planned.push(self.node(arg, &inner_needs)?);
        }
        let name = call.function.name;
        let all_invariant = planned.iter().all(|arg| arg.invariant);
        let of_selectors = args.iter().all(|arg| matches!(arg.kind, Kind::Vector(_)));
        let invariant = all_invariant && (!depends_on_step(name) || (name == "timestamp" && of_selectors));
        let mut plans: Vec<Plan> = planned
            .into_iter()
            // The samples' own times are lost once a selector stands alone.
            .map(|arg| if invariant || name == "timestamp" && of_selectors { arg.plan } else { arg.once() })
            .collect();
        let kind = self.call_kind(call, &args, &mut plans)?;
        Ok(Planned { plan: Plan { span, kind }, invariant, wrap: invariant })
    }

    /// The value of a function that only looks at the query's own times.
    fn query_constant(&self, name: &str) -> Option<f64> {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let QueryTimes { start_ms, end_ms, step_ms } = self.times;
        Some(match name {
            "start" => seconds(start_ms),
            "end" => seconds(end_ms),
            "range" => seconds(end_ms - start_ms),
            "step" if start_ms == end_ms => 0.0,
            "step" => seconds(step_ms),
            _ => return None,
        })
    }

    fn needs_of_arguments(call: &Call, needs: &Needs) -> Needs {
        match call.function.name {
            "absent" | "scalar" => needs.only([]),
            "label_replace" | "label_join" | "info" | "sort_by_label" | "sort_by_label_desc" => {
                needs.all_labels()
            }
            // Classic buckets are put together by all their labels.
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                needs.all_labels().buckets(NeededBuckets::Yes)
            }
            "histogram_count" | "histogram_sum" | "histogram_avg" => needs.clone().buckets(NeededBuckets::No),
            _ => needs.clone(),
        }
    }

    fn range_call(
        &self,
        span: Span,
        call: &Call,
        function: RangeFunction,
        needs: &Needs,
    ) -> Result<Planned, EvalError> {
        let args: Vec<&Node> = call.args.iter().map(Node::unwrap_parens).collect();
        let first_argument = args.first().map_or(span, |arg| arg.span);
        // Remarks name the metric.
        let needs = if function == RangeFunction::Present {
            needs.clone()
        } else {
            needs.and([METRIC_NAME.to_owned()])
        };
        let (mut params, mut source, mut invariant) = (Vec::new(), None, true);
        let mut absent_labels = Labels::empty();
        for arg in args {
            match &arg.kind {
                Kind::Matrix(matrix) => {
                    let needs = Self::without_fixed_name(&needs, &matrix.selector, call.function.name);
                    let selector = self.selector(&matrix.selector, &needs)?;
                    check_extended(call.function.name, selector.extended)?;
                    invariant &= selector.at_ms.is_some();
                    absent_labels = labels_of_equal_matchers(&matrix.selector.matchers);
                    source = Some((RangeSource::Selector(selector), self.duration(&matrix.range, false)?));
                }
                Kind::Subquery(subquery) => {
                    let (subquery, range_ms, fixed) = self.subquery(subquery, &needs)?;
                    invariant &= fixed;
                    source = Some((RangeSource::Subquery(subquery), range_ms));
                }
                _ => params.push(self.node(arg, &needs.all_labels())?),
            }
        }
        let Some((source, range_ms)) = source else { return execution("a range vector is missing") };
        invariant &= params.iter().all(|param| param.invariant) && !depends_on_step(call.function.name);
        let params = params.into_iter().map(|p| if invariant { p.plan } else { p.once() }).collect();
        let range = RangePlan { function, source, range_ms, params, first_argument };
        let mut plan = Plan { span, kind: PlanKind::Range(Box::new(range)) };
        if call.function.name == "absent_over_time" {
            let kind = PlanKind::AbsentOverTime { labels: absent_labels, present: Box::new(plan) };
            plan = Plan { span, kind };
        }
        Ok(Planned { plan, invariant, wrap: invariant })
    }

    /// A name that the matchers fix need not come with every series, unless it stays.
    fn without_fixed_name(needs: &Needs, selector: &VectorSelector, function: &str) -> Needs {
        let fixed = selector.matchers.iter().any(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal);
        let stays = matches!(function, "last_over_time" | "first_over_time");
        if fixed && !stays { needs.without(METRIC_NAME) } else { needs.clone() }
    }

    fn call_kind(&self, call: &Call, args: &[&Node], plans: &mut Vec<Plan>) -> Result<PlanKind, EvalError> {
        let name = call.function.name;
        if let Some(function) = Elementwise::from_name(name) {
            return Ok(PlanKind::Elementwise { function, inner: take(plans)? });
        }
        if let Some(part) = DatePart::from_function(name) {
            let inner = if plans.is_empty() { None } else { Some(take(plans)?) };
            return Ok(PlanKind::Date { part, inner });
        }
        Ok(match name {
            "time" => PlanKind::Time,
            "pi" => PlanKind::Number(std::f64::consts::PI),
            "scalar" => PlanKind::ToScalar(take(plans)?),
            "vector" => PlanKind::ToVector(take(plans)?),
            "min_of" | "max_of" => {
                PlanKind::Extreme { greater: name == "max_of", lhs: take(plans)?, rhs: take(plans)? }
            }
            "clamp" => {
                PlanKind::Clamp { inner: take(plans)?, min: Some(take(plans)?), max: Some(take(plans)?) }
            }
            "clamp_min" => PlanKind::Clamp { inner: take(plans)?, min: Some(take(plans)?), max: None },
            "clamp_max" => PlanKind::Clamp { inner: take(plans)?, min: None, max: Some(take(plans)?) },
            "round" => {
                let inner = take(plans)?;
                let to = if plans.is_empty() { None } else { Some(take(plans)?) };
                PlanKind::Round { inner, to }
            }
            "absent" => {
                let labels = match args.first().map(|arg| &arg.kind) {
                    Some(Kind::Vector(selector)) => labels_of_equal_matchers(&selector.matchers),
                    _ => Labels::empty(),
                };
                PlanKind::Absent { labels, inner: take(plans)? }
            }
            "sort" | "sort_desc" => PlanKind::Sort { descending: name == "sort_desc", inner: take(plans)? },
            "sort_by_label" | "sort_by_label_desc" => PlanKind::SortByLabel {
                labels: texts(args.get(1..).unwrap_or(&[])),
                descending: name == "sort_by_label_desc",
                inner: take(plans)?,
            },
            "timestamp" => {
                let inner = take(plans)?;
                match inner.kind {
                    PlanKind::Selector(selector) => PlanKind::SampleTimes(selector),
                    _ => PlanKind::StepTimes(inner),
                }
            }
            "start_timestamp" => PlanKind::Nothing(take(plans)?),
            "label_replace" => label_replace(args, *take(plans)?)?,
            "label_join" => label_join(args, *take(plans)?)?,
            "info" => self.info(args, *take(plans)?)?,
            _ => return histogram_call(name, args, plans),
        })
    }

    fn info(&self, args: &[&Node], inner: Plan) -> Result<PlanKind, EvalError> {
        let matchers = match args.get(1).map(|arg| &arg.kind) {
            Some(Kind::Vector(selector)) => selector.matchers.clone(),
            _ => Vec::new(),
        };
        let (offset_ms, at_ms) = match args.first() {
            Some(arg) => self.reference_time(arg)?.unwrap_or_default(),
            None => (0, None),
        };
        Ok(PlanKind::Info(Box::new(InfoPlan { inner, matchers, at_ms, offset_ms })))
    }

    /// The offset and `@` that govern the first selector below a node: its own and those of the
    /// subqueries around it, up to the first `@`.
    fn reference_time(&self, node: &Node) -> Result<Option<(i64, Option<i64>)>, EvalError> {
        match &node.kind {
            Kind::Vector(selector) => self.shift(&selector.time).map(Some),
            Kind::Matrix(matrix) => self.shift(&matrix.selector.time).map(Some),
            Kind::Subquery(subquery) => {
                let Some((offset_ms, at_ms)) = self.reference_time(&subquery.inner)? else { return Ok(None) };
                if at_ms.is_some() {
                    return Ok(Some((offset_ms, at_ms)));
                }
                let (outer_ms, at_ms) = self.shift(&subquery.time)?;
                Ok(Some((offset_ms + outer_ms, at_ms)))
            }
            _ => {
                // An aggregation's vector is looked at before its parameter.
                let mut children = node.children();
                if matches!(node.kind, Kind::Aggregate(_)) {
                    children.reverse();
                }
                for child in children {
                    if let Some(found) = self.reference_time(child)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// The next argument.
fn take(plans: &mut Vec<Plan>) -> Result<Box<Plan>, EvalError> {
    if plans.is_empty() {
        return execution("an argument is missing");
    }
    Ok(Box::new(plans.remove(0)))
}

fn histogram_call(name: &str, args: &[&Node], plans: &mut Vec<Plan>) -> Result<PlanKind, EvalError> {
    let number = match name {
        "histogram_count" => HistogramNumber::Count,
        "histogram_sum" => HistogramNumber::Sum,
        "histogram_avg" => HistogramNumber::Average,
        "histogram_stddev" => HistogramNumber::Stddev,
        "histogram_stdvar" => HistogramNumber::Stdvar,
        "histogram_quantile" => {
            let quantiles = vec![*take(plans)?];
            return Ok(PlanKind::HistogramQuantile { quantiles, label: None, inner: take(plans)? });
        }
        "histogram_quantiles" => {
            let (inner, _) = (take(plans)?, take(plans)?);
            let label = Some(text(args, 1));
            return Ok(PlanKind::HistogramQuantile { quantiles: std::mem::take(plans), label, inner });
        }
        "histogram_fraction" => {
            let (lower, upper) = (take(plans)?, take(plans)?);
            return Ok(PlanKind::HistogramFraction { lower, upper, inner: take(plans)? });
        }
        _ => return execution(format!("unknown function with name {name:?}")),
    };
    Ok(PlanKind::HistogramNumber { number, inner: take(plans)? })
}

fn text(args: &[&Node], index: usize) -> String {
    match args.get(index).map(|arg| &arg.kind) {
        Some(Kind::String(text)) => text.clone(),
        _ => String::new(),
    }
}

fn texts(args: &[&Node]) -> Vec<String> {
    (0..args.len()).map(|i| text(args, i)).collect()
}

fn label_replace(args: &[&Node], inner: Plan) -> Result<PlanKind, EvalError> {
    let (target, replacement) = (text(args, 1), text(args, 2));
    let (source, pattern) = (text(args, 3), text(args, 4));
    let regex = CapturingPattern::new(&pattern, Anchoring::Whole).map_err(|_| {
        EvalError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
    })?;
    if target.is_empty() {
        return execution(format!("invalid destination label name in label_replace(): {target}"));
    }
    Ok(PlanKind::LabelReplace(Box::new(LabelReplace { inner, target, replacement, source, regex })))
}

fn label_join(args: &[&Node], inner: Plan) -> Result<PlanKind, EvalError> {
    let (target, separator) = (text(args, 1), text(args, 2));
    let sources = texts(args.get(3..).unwrap_or(&[]));
    if let Some(source) = sources.iter().find(|source| source.is_empty()) {
        return execution(format!("invalid source label name in label_join(): {source}"));
    }
    if target.is_empty() {
        return execution(format!("invalid destination label name in label_join(): {target}"));
    }
    Ok(PlanKind::LabelJoin(Box::new(LabelJoin { inner, target, separator, sources })))
}

/// Whether a function can make sense of samples from beyond its window.
fn check_extended(function: &str, extended: Option<Extended>) -> Result<(), EvalError> {
    let allowed: &[&str] = match extended {
        None => return Ok(()),
        Some(Extended::Anchored) => &["changes", "delta", "increase", "rate", "resets"],
        Some(Extended::Smoothed) => &["delta", "increase", "rate"],
    };
    if allowed.contains(&function) {
        return Ok(());
    }
    let modifier = extended.map_or("", Extended::as_str);
    let with = allowed.join(", ");
    execution(format!("{modifier} modifier can only be used with: {with} - not with {function}"))
}

/// The labels that a selector's matchers pin down, as the absent functions show them: those with
/// one matcher, and that by equality.
fn labels_of_equal_matchers(matchers: &[Matcher]) -> Labels {
    let mut builder = LabelsBuilder::default();
    let mut seen = BTreeSet::new();
    for matcher in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && seen.insert(matcher.name.as_str()) {
            builder.set(&matcher.name, &matcher.value);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}
