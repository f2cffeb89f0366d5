//! Who made these series and streams: which names, values and pairs a list of label sets has, in
//! the shapes of Mimir's `cardinality/…`. Counted from one walk over the sets.

use std::cmp::Reverse;
use std::collections::HashMap;

use pilothouse_model::Labels;
use pilothouse_model::limits::CARDINALITY_ENTRIES;

use crate::error::ApiError;
use crate::json::{Object, push_labels, push_object};
use crate::params::Params;
use crate::reply::Reply;

/// For each label name its values, for each value the number of series.
#[derive(Default)]
pub(crate) struct Census<'a> {
    pub(crate) series: usize,
    names: HashMap<&'a str, HashMap<&'a str, usize>>,
}

impl<'a> Census<'a> {
    pub(crate) fn of(series: &'a [Labels]) -> Self {
        let mut census = Self { series: series.len(), ..Self::default() };
        for (name, value) in series.iter().flat_map(Labels::iter) {
            *census.names.entry(name).or_default().entry(value).or_default() += 1;
        }
        census
    }

    pub(crate) fn values(&self, name: &str) -> Vec<(&'a str, usize)> {
        self.names.get(name).map_or(Vec::new(), |values| values.iter().map(|(v, n)| (*v, *n)).collect())
    }

    pub(crate) fn value_counts(&self) -> Vec<(&'a str, usize)> {
        self.names.iter().map(|(name, values)| (*name, values.len())).collect()
    }

    pub(crate) fn pair_count(&self) -> usize {
        self.names.values().map(HashMap::len).sum()
    }

    pub(crate) fn pairs(&self) -> Vec<(String, usize)> {
        let pair = |name: &str, values: &HashMap<&str, usize>| {
            values.iter().map(|(value, n)| (format!("{name}={value}"), *n)).collect::<Vec<_>>()
        };
        self.names.iter().flat_map(|(name, values)| pair(name, values)).collect()
    }

    /// Bytes of all values of each name, each counted once a series, as Prometheus counts them.
    pub(crate) fn value_bytes(&self) -> Vec<(&'a str, usize)> {
        let bytes = |values: &HashMap<&str, usize>| values.iter().map(|(v, n)| v.len() * n).sum();
        self.names.iter().map(|(name, values)| (*name, bytes(values))).collect()
    }
}

/// The largest first, equal ones by name.
pub(crate) fn top<S: Ord>(mut counts: Vec<(S, usize)>, limit: usize) -> Vec<(S, usize)> {
    counts.sort_unstable_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    counts.truncate(limit);
    counts
}

/// `{"NAME":"text","COUNT":number}`.
pub(crate) fn push_pair(out: &mut String, (name, text): (&str, &str), (count_name, count): (&str, usize)) {
    push_object(out, |object| {
        object.text(name, text);
        object.count(count_name, count);
    });
}

// ---- the three questions ----

/// What is asked, besides the selector.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    /// Label names with the number of their values.
    Names { limit: usize },
    /// Values of some names with the number of sets that have them.
    Values { names: Vec<String>, limit: usize },
    /// The sets themselves.
    Sets,
}

impl Question {
    pub(crate) fn names(params: &Params) -> Result<Self, ApiError> {
        let limit = limit(params)?;
        count_method(params)?;
        Ok(Self::Names { limit })
    }

    pub(crate) fn values(params: &Params) -> Result<Self, ApiError> {
        let names: Vec<String> = params.all("label_names[]").map(str::to_owned).collect();
        if names.is_empty() {
            return Err(ApiError::bad_data("'label_names[]' param is required"));
        }
        if names.iter().any(String::is_empty) {
            return Err(ApiError::bad_data("invalid 'label_names[]' param ''"));
        }
        let limit = limit(params)?;
        count_method(params)?;
        Ok(Self::Values { names, limit })
    }

    pub(crate) fn sets(params: &Params) -> Result<Self, ApiError> {
        match params.text("selector") {
            "" => Err(ApiError::bad_data("missing 'selector' parameter")),
            _ => Ok(Self::Sets),
        }
    }

    pub(crate) fn answer(&self, sets: &[Labels]) -> Reply {
        let mut out = String::new();
        push_object(&mut out, |object| match self {
            Self::Names { limit } => put_names(object, &Census::of(sets), *limit),
            Self::Values { names, limit } => {
                let census = Census::of(sets);
                object.count("series_count_total", census.series);
                object.list("labels", names, |out, name| push_label_values(out, &census, name, *limit));
            }
            Self::Sets => object.list("data", sets, push_labels),
        });
        Reply::json(out)
    }
}

fn put_names(object: &mut Object<'_>, census: &Census<'_>, limit: usize) {
    object.count("label_values_count_total", census.pair_count());
    object.count("label_names_count", census.names.len());
    object.list("cardinality", top(census.value_counts(), limit), |out, (name, count)| {
        push_pair(out, ("label_name", name), ("label_values_count", count));
    });
}

fn push_label_values(out: &mut String, census: &Census<'_>, name: &str, limit: usize) {
    let values = census.values(name);
    push_object(out, |object| {
        object.text("label_name", name);
        object.count("label_values_count", values.len());
        object.count("series_count", values.iter().map(|(_, n)| n).sum());
        object.list("cardinality", top(values, limit), |out, (value, count)| {
            push_pair(out, ("label_value", value), ("series_count", count));
        });
    });
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    let limit =
        params.number("limit").map_err(|e| ApiError::bad_data(format!("invalid 'limit' param: {e}")))?;
    let limit = limit.unwrap_or(20);
    if limit < 0 {
        return Err(ApiError::bad_data("'limit' param cannot be less than '0'"));
    }
    if limit > CARDINALITY_ENTRIES {
        return Err(ApiError::bad_data(format!(
            "'limit' param cannot be greater than '{CARDINALITY_ENTRIES}'"
        )));
    }
    Ok(usize::try_from(limit).unwrap_or(0))
}

/// Both methods that Mimir knows count the same series here.
fn count_method(params: &Params) -> Result<(), ApiError> {
    match params.text("count_method") {
        "" | "inmemory" | "active" => Ok(()),
        other => Err(ApiError::bad_data(format!(
            "invalid 'count_method' param '{other}'. valid options are: [active,inmemory]"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_model::labels::METRIC_NAME;

    use super::*;

    #[test]
    fn a_census_counts_names_values_and_pairs() {
        let series: Vec<Labels> = [("a", "1"), ("a", "2"), ("b", "1")]
            .map(|(name, x)| Labels::from_pairs([(METRIC_NAME, name), ("x", x)]))
            .into();
        let census = Census::of(&series);
        assert_eq!(census.series, 3);
        assert_eq!(census.pair_count(), 4);
        assert_eq!(top(census.values(METRIC_NAME), 10), [("a", 2), ("b", 1)]);
        assert_eq!(top(census.value_counts(), 1), [(METRIC_NAME, 2)]);
        assert_eq!(top(census.pairs(), 2), [("__name__=a".to_owned(), 2), ("x=1".to_owned(), 2)]);
        assert_eq!(top(census.value_bytes(), 1), [(METRIC_NAME, 3)]);
    }
}
