//! The tree of a query. Every node prints as Loki prints it (`Display`), which is also the text
//! that messages quote.

use pilothouse_model::Matcher;

#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    Log(LogExpr),
    Metric(MetricExpr),
}

impl Expr {
    /// How far back the longest range of the expression looks from each of its points.
    pub fn longest_range_ns(&self) -> i64 {
        match self {
            Self::Log(_) => 0,
            Self::Metric(metric) => metric.longest_range_ns(),
        }
    }
}

/// A stream selector and its pipeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogExpr {
    pub matchers: Vec<Matcher>,
    pub stages: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Filters that stand one behind the other; all must hold.
    Lines(Vec<LineFilter>),
    Json,
    Logfmt {
        strict: bool,
        keep_empty: bool,
    },
    Regexp(String),
    Pattern(String),
    Unpack,
    JsonFields(Vec<Extraction>),
    LogfmtFields {
        fields: Vec<Extraction>,
        strict: bool,
        keep_empty: bool,
    },
    Filter(LabelFilter),
    LineFormat(String),
    LabelFormat(Vec<LabelFormat>),
    Decolorize,
    Drop(Vec<LabelChoice>),
    Keep(Vec<LabelChoice>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineOp {
    Contains,
    NotContains,
    Regex,
    NotRegex,
    Pattern,
    NotPattern,
}

impl LineOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Regex => "|~",
            Self::NotRegex => "!~",
            Self::Pattern => "|>",
            Self::NotPattern => "!>",
        }
    }

    pub fn negated(self) -> bool {
        matches!(self, Self::NotContains | Self::NotRegex | Self::NotPattern)
    }
}

/// One thing to look for in a line; `ip` where it was written `ip("…")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle {
    pub text: String,
    pub ip: bool,
}

/// A line filter with its `or` alternatives. A negated filter has one needle: `!= "a" or "b"`
/// becomes two filters, as in Loki.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFilter {
    pub op: LineOp,
    pub needles: Vec<Needle>,
}

/// `name="expression"` of `json` and `logfmt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    pub label: String,
    pub expression: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFormat {
    pub label: String,
    pub value: FormatValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatValue {
    Rename(String),
    Template(String),
}

/// A label named by `drop` or `keep`, or by a matcher there.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelChoice {
    Name(String),
    Matching(Matcher),
}

impl LabelChoice {
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Matching(matcher) => &matcher.name,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

impl Compare {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Less => "<",
            Self::LessEqual => "<=",
        }
    }

    pub fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterEqual => left >= right,
            Self::Less => left < right,
            Self::LessEqual => left <= right,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum LabelFilter {
    Text(Matcher),
    Number { label: String, compare: Compare, value: f64 },
    Duration { label: String, compare: Compare, value_ns: i64 },
    Bytes { label: String, compare: Compare, value: u64 },
    Ip { label: String, negated: bool, pattern: String },
    And(Box<LabelFilter>, Box<LabelFilter>),
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeOp {
    Count,
    Rate,
    RateCounter,
    Bytes,
    BytesRate,
    Avg,
    Sum,
    Min,
    Max,
    Stdvar,
    Stddev,
    Quantile,
    First,
    Last,
    Absent,
}

impl RangeOp {
    pub const ALL: [Self; 15] = [
        Self::Count,
        Self::Rate,
        Self::RateCounter,
        Self::Bytes,
        Self::BytesRate,
        Self::Avg,
        Self::Sum,
        Self::Min,
        Self::Max,
        Self::Stdvar,
        Self::Stddev,
        Self::Quantile,
        Self::First,
        Self::Last,
        Self::Absent,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count_over_time",
            Self::Rate => "rate",
            Self::RateCounter => "rate_counter",
            Self::Bytes => "bytes_over_time",
            Self::BytesRate => "bytes_rate",
            Self::Avg => "avg_over_time",
            Self::Sum => "sum_over_time",
            Self::Min => "min_over_time",
            Self::Max => "max_over_time",
            Self::Stdvar => "stdvar_over_time",
            Self::Stddev => "stddev_over_time",
            Self::Quantile => "quantile_over_time",
            Self::First => "first_over_time",
            Self::Last => "last_over_time",
            Self::Absent => "absent_over_time",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorOp {
    Sum,
    Avg,
    Max,
    Min,
    Count,
    Stddev,
    Stdvar,
    Bottomk,
    Topk,
    ApproxTopk,
    Sort,
    SortDesc,
}

impl VectorOp {
    pub const ALL: [Self; 12] = [
        Self::Sum,
        Self::Avg,
        Self::Max,
        Self::Min,
        Self::Count,
        Self::Stddev,
        Self::Stdvar,
        Self::Bottomk,
        Self::Topk,
        Self::ApproxTopk,
        Self::Sort,
        Self::SortDesc,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Max => "max",
            Self::Min => "min",
            Self::Count => "count",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Bottomk => "bottomk",
            Self::Topk => "topk",
            Self::ApproxTopk => "approx_topk",
            Self::Sort => "sort",
            Self::SortDesc => "sort_desc",
        }
    }

    pub fn takes_parameter(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk | Self::ApproxTopk)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

impl BinaryOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }

    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    pub fn comparison(self) -> Option<Compare> {
        Some(match self {
            Self::Equal => Compare::Equal,
            Self::NotEqual => Compare::NotEqual,
            Self::Less => Compare::Less,
            Self::LessEqual => Compare::LessEqual,
            Self::Greater => Compare::Greater,
            Self::GreaterEqual => Compare::GreaterEqual,
            _ => return None,
        })
    }

    /// Higher binds tighter.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod => 5,
            Self::Pow => 6,
            _ => 3,
        }
    }

    /// The value of two numbers; a comparison gives 1 or 0. Dividing by zero gives NaN, for `/`
    /// as well as for `%`, as Loki does and Prometheus does not.
    pub fn of(self, left: f64, right: f64) -> f64 {
        if let Some(compare) = self.comparison() {
            return if compare.holds(left, right) { 1.0 } else { 0.0 };
        }
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div | Self::Mod if right == 0.0 => f64::NAN,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            _ => f64::NAN,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    pub labels: Vec<String>,
    pub without: bool,
}

impl Grouping {
    /// Whether all series fall into one without labels.
    pub fn is_single(&self) -> bool {
        self.labels.is_empty() && !self.without
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    Number,
    Bytes,
    Duration,
    /// The same as `Duration`, printed by its own name.
    DurationSeconds,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Unwrap {
    pub label: String,
    pub conversion: Conversion,
    pub filters: Vec<LabelFilter>,
}

/// A log expression over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRange {
    pub log: LogExpr,
    pub interval_ns: i64,
    pub offset_ns: i64,
    pub unwrap: Option<Unwrap>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RangeAggregation {
    pub op: RangeOp,
    pub range: LogRange,
    /// φ of `quantile_over_time`.
    pub parameter: Option<f64>,
    pub grouping: Option<Grouping>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VectorAggregation {
    pub op: VectorOp,
    pub inner: Box<MetricExpr>,
    /// k of `topk` and `bottomk`, else 0.
    pub parameter: usize,
    pub grouping: Grouping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    #[default]
    OneToOne,
    ManyToOne,
    OneToMany,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VectorMatching {
    pub cardinality: Cardinality,
    pub on: bool,
    pub labels: Vec<String>,
    /// Whether `on` or `ignoring` was written with a list, be it empty.
    pub listed: bool,
    pub include: Vec<String>,
    pub return_bool: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub left: Box<MetricExpr>,
    pub right: Box<MetricExpr>,
    pub matching: VectorMatching,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    pub target: String,
    pub replacement: String,
    pub source: String,
    pub regex: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MetricExpr {
    Range(Box<RangeAggregation>),
    Aggregate(VectorAggregation),
    Binary(Binary),
    Replace(Box<MetricExpr>, Replacement),
    Literal(f64),
    Vector(f64),
    /// Grammatical, but meaningless: what is wrong with it. No checked query holds one.
    Invalid(String),
}

impl MetricExpr {
    fn longest_range_ns(&self) -> i64 {
        match self {
            Self::Range(aggregation) => aggregation.range.interval_ns,
            Self::Aggregate(aggregation) => aggregation.inner.longest_range_ns(),
            Self::Binary(binary) => binary.left.longest_range_ns().max(binary.right.longest_range_ns()),
            Self::Replace(inner, _) => inner.longest_range_ns(),
            Self::Literal(_) | Self::Vector(_) | Self::Invalid(_) => 0,
        }
    }
}
