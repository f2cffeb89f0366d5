//! The tree of a checked query, with byte positions.
//!
//! promql-parser settles how a query nests; what each word says comes from our own pass over
//! the tokens (the modules `tokens` and `reader`), because that parser keeps neither
//! positions nor the newest syntax. Durations stay expressions here: they are worked out
//! against the query's grid when it is planned.

use pilothouse_model::Matcher;

use crate::functions::Function;

/// Byte positions in the query's text, the end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// From the start of one to the end of the other.
    pub fn to(self, last: Self) -> Self {
        Self { start: self.start, end: last.end }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    String,
    /// An instant vector.
    Vector,
    /// A range vector.
    Matrix,
}

impl ValueType {
    /// As the HTTP API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
        }
    }

    /// As the documentation and the error texts name it.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }
}

/// One node with the text it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Number(NumberLiteral),
    String(String),
    Vector(VectorSelector),
    Matrix(MatrixSelector),
    Subquery(Box<Subquery>),
    Call(Call),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Unary(Box<Unary>),
    Paren(Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberLiteral {
    /// Seconds where it was written as a duration.
    pub value: f64,
    pub is_duration: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name written before the braces; it is also the last of the matchers.
    pub name: Option<String>,
    pub matchers: Vec<Matcher>,
    pub time: TimeShift,
    pub extended: Option<Extended>,
}

/// How the samples at the edges of a window are looked up, beyond the window itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    Anchored,
    Smoothed,
}

impl Extended {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// `offset` and `@` of a selector or subquery.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimeShift {
    pub offset: Option<Duration>,
    pub at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Time { t_ms: i64 },
    Start,
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    pub range: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    pub inner: Node,
    pub range: Duration,
    /// The engine's default step where it is not said.
    pub step: Option<Duration>,
    pub time: TimeShift,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub function: &'static Function,
    pub args: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub inner: Node,
    pub param: Option<Node>,
    pub grouping: Vec<String>,
    pub without: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateOp {
    Avg,
    BottomK,
    Count,
    CountValues,
    Group,
    LimitK,
    LimitRatio,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    TopK,
}

impl AggregateOp {
    pub const ALL: [Self; 14] = [
        Self::Avg,
        Self::BottomK,
        Self::Count,
        Self::CountValues,
        Self::Group,
        Self::LimitK,
        Self::LimitRatio,
        Self::Max,
        Self::Min,
        Self::Quantile,
        Self::Stddev,
        Self::Stdvar,
        Self::Sum,
        Self::TopK,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::BottomK => "bottomk",
            Self::Count => "count",
            Self::CountValues => "count_values",
            Self::Group => "group",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
            Self::Max => "max",
            Self::Min => "min",
            Self::Quantile => "quantile",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Sum => "sum",
            Self::TopK => "topk",
        }
    }

    pub fn has_param(self) -> bool {
        matches!(
            self,
            Self::TopK | Self::BottomK | Self::CountValues | Self::Quantile | Self::LimitK | Self::LimitRatio
        )
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Node,
    pub rhs: Node,
    pub return_bool: bool,
    /// Only between two instant vectors.
    pub matching: Option<Matching>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    /// `</`: keeps the observations of a histogram below a bound.
    TrimUpper,
    /// `>/`: keeps the observations of a histogram above a bound.
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Lt => "<",
            Self::Ge => ">=",
            Self::Le => "<=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Gt | Self::Lt | Self::Ge | Self::Le)
    }

    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    #[default]
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

impl Cardinality {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// How the elements of two vectors find each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matching {
    pub card: Cardinality,
    pub labels: Vec<String>,
    /// Match on `labels` only, rather than on all but them.
    pub on: bool,
    /// Labels taken over from the "one" side.
    pub include: Vec<String>,
    /// Value for a series that is missing on the left.
    pub fill_left: Option<f64>,
    /// Value for a series that is missing on the right.
    pub fill_right: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Else it is a plus, which changes nothing but the printed text.
    pub minus: bool,
    pub inner: Node,
}

/// A duration as written: a literal, or an expression over literals, `step()` and `range()`.
#[derive(Debug, Clone, PartialEq)]
pub struct Duration {
    pub span: Span,
    pub kind: DurationKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DurationKind {
    /// Seconds, whether written with units or as a bare number; negative only in offsets.
    Literal(NumberLiteral),
    Step,
    Range,
    Unary {
        minus: bool,
        inner: Box<Duration>,
    },
    Binary {
        op: DurationOp,
        lhs: Box<Duration>,
        rhs: Box<Duration>,
    },
    Paren(Box<Duration>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

impl DurationOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::MinOf => "min_of",
            Self::MaxOf => "max_of",
        }
    }
}

impl Node {
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            Kind::Number(_) => ValueType::Scalar,
            Kind::String(_) => ValueType::String,
            Kind::Vector(_) | Kind::Aggregate(_) => ValueType::Vector,
            Kind::Matrix(_) | Kind::Subquery(_) => ValueType::Matrix,
            Kind::Call(call) => call.function.returns,
            // A binary expression is a scalar only between scalars; the sides were checked.
            Kind::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Kind::Unary(unary) => unary.inner.value_type(),
            Kind::Paren(inner) => inner.value_type(),
        }
    }

    /// The direct children in source order; the parameter of an aggregation comes first.
    pub fn children(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Number(_) | Kind::String(_) | Kind::Vector(_) | Kind::Matrix(_) => Vec::new(),
            Kind::Subquery(subquery) => vec![&subquery.inner],
            Kind::Call(call) => call.args.iter().collect(),
            Kind::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.inner]).collect(),
            Kind::Binary(binary) => vec![&binary.lhs, &binary.rhs],
            Kind::Unary(unary) => vec![&unary.inner],
            Kind::Paren(inner) => vec![inner],
        }
    }

    /// The node inside any parentheses around it.
    pub fn unwrap_parens(&self) -> &Node {
        let mut node = self;
        while let Kind::Paren(inner) = &node.kind {
            node = inner;
        }
        node
    }
}
