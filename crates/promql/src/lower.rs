//! promql-parser's tree and the reader's notes become one tree of our own.

use std::sync::OnceLock;

use promql_parser::parser::value::ValueType as ParserType;
use promql_parser::parser::{Expr as Parsed, Function as ParserFunction, register_extra_functions};

use crate::ast::{Aggregate, Binary, Call, Kind, Node, NumberLiteral, Span, Subquery, Unary};
use crate::error::ParseError;
use crate::reader::{CALL, Note, Read, Reading};

/// Lets promql-parser settle the nesting of a reading and puts the notes in their places.
pub(crate) fn lower(query: &str, reading: Reading) -> Read<Node> {
    catch_all()?;
    let parsed = promql_parser::parser::parse(&reading.skeleton).map_err(|e| whole(query, e))?;
    let mut lowering = Lowering { notes: reading.notes.into_iter() };
    let node = lowering.node(&parsed).and_then(|node| match lowering.notes.next() {
        None => Some(node),
        Some(_) => None,
    });
    node.ok_or_else(|| whole(query, "the parts of the expression do not fit together".to_owned()))
}

fn whole(query: &str, message: String) -> ParseError {
    ParseError::new(query, Span::new(0, query.len()), message)
}

/// Registers the function that stands for all functions and aggregations, once a process.
fn catch_all() -> Read<()> {
    static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
    REGISTERED
        .get_or_init(|| {
            let arguments = vec![ParserType::Vector];
            let call = ParserFunction::new(CALL, arguments, -1, ParserType::Vector, false);
            register_extra_functions(vec![call])
        })
        .clone()
        .map_err(|e| whole("", e))
}

struct Lowering {
    notes: std::vec::IntoIter<Note>,
}

impl Lowering {
    /// `None` where the tree and the notes disagree.
    fn node(&mut self, parsed: &Parsed) -> Option<Node> {
        match parsed {
            Parsed::VectorSelector(_) => match self.notes.next()? {
                Note::Operand(node) => Some(node),
                _ => None,
            },
            Parsed::Paren(paren) => {
                let Note::Paren(span) = self.notes.next()? else { return None };
                let inner = self.node(&paren.expr)?;
                Some(Node { span, kind: Kind::Paren(Box::new(inner)) })
            }
            Parsed::Unary(unary) => {
                let Note::Unary { minus, span } = self.notes.next()? else { return None };
                let inner = self.node(&unary.expr)?;
                Some(signed(minus, span, inner))
            }
            Parsed::Binary(binary) => {
                let lhs = self.node(&binary.lhs)?;
                let Note::Binary { op, return_bool, matching } = self.notes.next()? else { return None };
                let rhs = self.node(&binary.rhs)?;
                let span = lhs.span.to(rhs.span);
                let binary = Binary { op, lhs, rhs, return_bool, matching: Some(matching) };
                Some(Node { span, kind: Kind::Binary(Box::new(binary)) })
            }
            Parsed::Call(call) => self.call(&call.args.args),
            _ => None,
        }
    }

    fn call(&mut self, args: &[Box<Parsed>]) -> Option<Node> {
        let note = self.notes.next()?;
        let mut args = args.iter().map(|arg| self.node(arg)).collect::<Option<Vec<_>>>()?;
        match note {
            Note::Call { function, span } => Some(Node { span, kind: Kind::Call(Call { function, args }) }),
            Note::Aggregate { op, grouping, without, span } => {
                let inner = args.pop()?;
                let aggregate = Aggregate { op, inner, param: args.pop(), grouping, without };
                Some(Node { span, kind: Kind::Aggregate(Box::new(aggregate)) })
            }
            Note::Subquery { range, step, time, span } => {
                let subquery = Subquery { inner: args.pop()?, range, step, time };
                Some(Node { span, kind: Kind::Subquery(Box::new(subquery)) })
            }
            _ => None,
        }
    }
}

/// A sign before a number makes another number; before anything else it is an operation.
fn signed(minus: bool, sign: Span, inner: Node) -> Node {
    let span = sign.to(inner.span);
    let kind = match inner.kind {
        Kind::Number(literal) => {
            let value = if minus { -literal.value } else { literal.value };
            Kind::Number(NumberLiteral { value, ..literal })
        }
        _ => Kind::Unary(Box::new(Unary { minus, inner })),
    };
    Node { span, kind }
}
