//! The algebra of native histograms, as Prometheus `model/histogram` and `promql/quantile.go`
//! define it, over the plain [`Histogram`] of the crate `model`.
//!
//! A histogram is changed by free functions, in place where the result has the shape of the
//! input: [`add`], [`subtract`], [`scale`], [`divide`], [`compact`], [`reduce_to`],
//! [`trim_above`], [`trim_below`]. Long sums go through [`HistogramSum`] and [`HistogramMean`],
//! which keep a compensation beside every number. What is read off a histogram: [`buckets()`],
//! [`quantile()`], [`fraction`], [`average`], [`variance`], [`has_reset`], [`equal`]. Histograms
//! that come from outside pass [`admit`] first.
//!
//! Histograms that passed [`admit`] never make these functions panic, and neither do others;
//! but of spans and counts that do not fit each other the surplus is ignored.
//!
//! Inside, the buckets of one sign are a sorted run of (index, count), see `buckets`; all
//! arithmetic is a merge of such runs, written once for plain and for compensated counts, see
//! `combine`.

mod accumulate;
mod arithmetic;
mod bound;
mod buckets;
mod classic;
mod combine;
mod fractions;
mod increase;
mod iterate;
mod moments;
mod quantile;
mod reset;
#[cfg(test)]
mod tests;
mod text;
mod trim;
mod validate;

pub use accumulate::{HistogramMean, HistogramSum};
pub use arithmetic::{add, compact, divide, equal, reduce_to, scale, subtract};
pub use bound::bucket_bound;
pub use classic::{ClassicBucket, ClassicQuantile, MonotonicityRepair, classic_fraction, classic_quantile};
pub use combine::{CustomBounds, Joined, MixedSchemas, ResetHints};
pub use increase::{Increase, KindNote, Range, increase};
pub use iterate::{Boundaries, Bucket, buckets, negative_buckets, populated_buckets, positive_buckets};
pub use moments::{average, standard_deviation, variance};
pub use quantile::{Fraction, NanNote, Quantile, fraction, quantile};
pub use reset::has_reset;
pub use text::HistogramText;
pub use trim::{trim_above, trim_below};
pub use validate::{InvalidHistogram, admit, validate};

pub use pilothouse_model::Histogram;
