//! The plan of a query: what is to be evaluated, over which series and labels. See
//! [`crate::planner`] for how it is made.

use pilothouse_model::matcher::CapturingPattern;
use pilothouse_model::{LabelNeeds, Labels, Matcher};
use pilothouse_query::vectors::Grouping;

use crate::ast::{AggregateOp, BinaryOp, Extended, Matching, Span, ValueType};
use crate::dates::DatePart;
use crate::range_functions::RangeFunction;
use crate::scalars::Elementwise;

/// One node of a plan. The span is that of the text it came from, parentheses left out.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) span: Span,
    pub(crate) kind: PlanKind,
}

#[derive(Debug)]
pub(crate) enum PlanKind {
    Number(f64),
    Text(String),
    /// The time of each step, in seconds.
    Time,
    Selector(SelectorPlan),
    /// The times of the selected samples, in seconds.
    SampleTimes(SelectorPlan),
    /// The time of each step wherever the inside has a value.
    StepTimes(Box<Plan>),
    Range(Box<RangePlan>),
    /// 1 at every step at which no series has a value.
    AbsentOverTime {
        labels: Labels,
        present: Box<Plan>,
    },
    Absent {
        labels: Labels,
        inner: Box<Plan>,
    },
    /// A function of each float; histograms fall out.
    Elementwise {
        function: Elementwise,
        inner: Box<Plan>,
    },
    Clamp {
        inner: Box<Plan>,
        min: Option<Box<Plan>>,
        max: Option<Box<Plan>>,
    },
    Round {
        inner: Box<Plan>,
        to: Option<Box<Plan>>,
    },
    /// A part of the date of each value, or of each step.
    Date {
        part: DatePart,
        inner: Option<Box<Plan>>,
    },
    /// A number read off each histogram; floats fall out.
    HistogramNumber {
        number: HistogramNumber,
        inner: Box<Plan>,
    },
    ToScalar(Box<Plan>),
    ToVector(Box<Plan>),
    /// The lesser or the greater of two scalars.
    Extreme {
        greater: bool,
        lhs: Box<Plan>,
        rhs: Box<Plan>,
    },
    Sort {
        descending: bool,
        inner: Box<Plan>,
    },
    SortByLabel {
        labels: Vec<String>,
        descending: bool,
        inner: Box<Plan>,
    },
    LabelReplace(Box<LabelReplace>),
    LabelJoin(Box<LabelJoin>),
    Info(Box<InfoPlan>),
    HistogramQuantile {
        quantiles: Vec<Plan>,
        /// The label that tells the quantiles apart, if there may be several.
        label: Option<String>,
        inner: Box<Plan>,
    },
    HistogramFraction {
        lower: Box<Plan>,
        upper: Box<Plan>,
        inner: Box<Plan>,
    },
    /// An instant vector that is evaluated, and then empty.
    Nothing(Box<Plan>),
    Negate(Box<Plan>),
    Aggregate(Box<AggregatePlan>),
    Binary(Box<BinaryPlan>),
    /// The same at every step: evaluated once.
    Invariant(Box<Plan>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistogramNumber {
    Count,
    Sum,
    Average,
    Stddev,
    Stdvar,
}

#[derive(Debug)]
pub(crate) struct SelectorPlan {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) needs: LabelNeeds,
    pub(crate) offset_ms: i64,
    /// The one time at which it is looked at, before the offset.
    pub(crate) at_ms: Option<i64>,
    pub(crate) extended: Option<Extended>,
    /// The metric name, where the matchers leave no choice.
    pub(crate) fixed_name: Option<String>,
    /// Of native histograms only count and sum are looked at.
    pub(crate) statistics_only: bool,
}

#[derive(Debug)]
pub(crate) struct RangePlan {
    pub(crate) function: RangeFunction,
    pub(crate) source: RangeSource,
    pub(crate) range_ms: i64,
    /// The scalar arguments, in order.
    pub(crate) params: Vec<Plan>,
    /// Where remarks point to.
    pub(crate) first_argument: Span,
}

#[derive(Debug)]
pub(crate) enum RangeSource {
    Selector(SelectorPlan),
    Subquery(SubqueryPlan),
}

#[derive(Debug)]
pub(crate) struct SubqueryPlan {
    pub(crate) inner: Box<Plan>,
    /// The engine's default where it is not said.
    pub(crate) step_ms: Option<i64>,
    pub(crate) offset_ms: i64,
    pub(crate) at_ms: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct LabelReplace {
    pub(crate) inner: Plan,
    pub(crate) target: String,
    pub(crate) replacement: String,
    pub(crate) source: String,
    pub(crate) regex: CapturingPattern,
}

#[derive(Debug)]
pub(crate) struct LabelJoin {
    pub(crate) inner: Plan,
    pub(crate) target: String,
    pub(crate) separator: String,
    pub(crate) sources: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct InfoPlan {
    pub(crate) inner: Plan,
    pub(crate) matchers: Vec<Matcher>,
    /// When the info series are looked at.
    pub(crate) at_ms: Option<i64>,
    pub(crate) offset_ms: i64,
}

#[derive(Debug)]
pub(crate) struct AggregatePlan {
    pub(crate) op: AggregateOp,
    pub(crate) grouping: Grouping,
    /// The label that `count_values` makes.
    pub(crate) value_label: Option<String>,
    pub(crate) param: Option<Plan>,
    pub(crate) inner: Plan,
}

#[derive(Debug)]
pub(crate) struct BinaryPlan {
    pub(crate) op: BinaryOp,
    pub(crate) return_bool: bool,
    pub(crate) matching: Option<Matching>,
    pub(crate) lhs: Plan,
    pub(crate) rhs: Plan,
    pub(crate) types: (ValueType, ValueType),
}

/// What a query asks for beyond one value a step: an instant query may end in a range vector.
#[derive(Debug)]
pub(crate) enum Root {
    Expression(Plan),
    Matrix { selector: SelectorPlan, range_ms: i64 },
    Subquery { subquery: SubqueryPlan, range_ms: i64 },
}

/// The times that a query is planned for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryTimes {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// 0 for an instant query.
    pub(crate) step_ms: i64,
}
