//! PromQL: read, check, plan, evaluate over any series source.
//!
//! A query becomes a tree ([`parse`], [`ast`]), the tree a plan for one grid of times, the plan
//! rows over that grid ([`Engine`]). A row is one series with a cell a step, so that every series
//! is read and walked once, however many steps there are; an instant is a grid of one. Semantics,
//! error texts and annotations are those of Prometheus main with its experimental switches on;
//! what differs is listed in `docs/compat/promql.md`.
//!
//! Nothing here knows a store, HTTP or JSON. What a query may take is bounded by the budget that
//! comes with it, and by [`ParseContext`] for its text.
//!
//! Reading order of the modules: `tokens`, `reader`, `modifiers`, `durations`, `lower`, `check`
//! make the tree; `plan`, `planner` the plan; `rows`, `evaluator`, `pipeline`, `selectors`,
//! `range_functions`, `extended`, `subqueries`, `changes`, `elements`, `matching`, `aggregate`,
//! `choose`, `histogram_functions`, `label_functions`, `info` evaluate it; `notes` collects the
//! annotations; `engine` is the door.

mod aggregate;
pub mod ast;
mod changes;
mod check;
mod choose;
mod dates;
mod durations;
mod elements;
mod engine;
mod error;
mod evaluator;
mod extended;
mod functions;
mod histogram_functions;
mod info;
mod label_functions;
mod literals;
mod lower;
mod matching;
mod modifiers;
mod notes;
mod pipeline;
mod plan;
mod planner;
pub mod printer;
mod range_functions;
mod reader;
mod rows;
mod scalars;
mod selectors;
mod subqueries;
mod tokens;

pub use ast::{Node, ValueType};
pub use engine::{Engine, Options, QueryOutcome, QueryStats};
pub use error::{EvalError, ParseError};

use pilothouse_model::Matcher;
use pilothouse_model::limits::Limits;

/// What bounds the reading of a query.
#[derive(Debug, Clone, Copy)]
pub struct ParseContext {
    pub max_length_bytes: usize,
    pub max_depth: usize,
}

impl From<&Limits> for ParseContext {
    fn from(limits: &Limits) -> Self {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            max_length_bytes: size(limits.max_query_length_bytes),
            max_depth: size(limits.max_query_depth),
        }
    }
}

impl Default for ParseContext {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// A query that was read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    text: String,
    root: Node,
}

impl Expr {
    /// The query as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn root(&self) -> &Node {
        &self.root
    }

    pub fn value_type(&self) -> ValueType {
        self.root.value_type()
    }

    /// The matchers of every selector, in source order.
    pub fn selectors(&self) -> Vec<&[Matcher]> {
        let mut found = Vec::new();
        collect_selectors(&self.root, &mut found);
        found
    }
}

fn collect_selectors<'a>(node: &'a Node, found: &mut Vec<&'a [Matcher]>) {
    match &node.kind {
        ast::Kind::Vector(selector) => found.push(&selector.matchers),
        ast::Kind::Matrix(matrix) => found.push(&matrix.selector.matchers),
        _ => {}
    }
    for child in node.children() {
        collect_selectors(child, found);
    }
}

/// Reads and checks a query.
pub fn parse(query: &str, context: &ParseContext) -> Result<Expr, ParseError> {
    if query.len() > context.max_length_bytes {
        let message = format!("query is longer than {} bytes", context.max_length_bytes);
        return Err(ParseError::new(query, ast::Span::default(), message));
    }
    let reading = reader::read(query, context.max_depth)?;
    let mut root = lower::lower(query, reading)?;
    check::check(query, &mut root)?;
    Ok(Expr { text: query.to_owned(), root })
}

/// Reads a series selector such as `match[]` has it: `name{a="b"}`, one matcher at least not
/// matching the empty text.
pub fn parse_selector(text: &str, context: &ParseContext) -> Result<Vec<Matcher>, ParseError> {
    if text.len() > context.max_length_bytes {
        let message = format!("selector is longer than {} bytes", context.max_length_bytes);
        return Err(ParseError::new(text, ast::Span::default(), message));
    }
    let selector = reader::read_selector(text)?;
    let mut node = Node { span: ast::Span::new(0, text.len()), kind: ast::Kind::Vector(selector) };
    check::check(text, &mut node)?;
    match node.kind {
        ast::Kind::Vector(selector) => Ok(selector.matchers),
        _ => Ok(Vec::new()),
    }
}
