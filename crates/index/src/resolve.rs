//! What matchers select, written once over anything that has lists of series by label.
//!
//! A matcher that does not match the empty text selects the series whose value passes. One that
//! does also selects the series without the label, so it is taken the other way round: all
//! series but those whose value does not pass. This is what Prometheus' `PostingsForMatchers`
//! comes to.

use std::borrow::Cow;
use std::ops::ControlFlow;

use pilothouse_model::{Budget, MatchOp, Matcher};
use roaring::{MultiOps as _, RoaringBitmap};

use crate::postings::Union;
use crate::{Error, Listed};

/// Whether a scan goes on.
pub type Scan = ControlFlow<()>;

/// Lists of series by label: the index in memory, or that of a closed day on disk.
///
/// An id is whatever the source numbers its series by.
pub trait PostingsSource {
    /// All series.
    fn all(&self) -> Result<Cow<'_, RoaringBitmap>, Error>;
    /// All label names, sorted.
    fn names(&self) -> Result<Vec<String>, Error>;
    /// The series with this very value; empty if there are none.
    fn postings(&self, name: &str, value: &str) -> Result<Cow<'_, RoaringBitmap>, Error>;
    /// The series that have a label of this name.
    fn having(&self, name: &str) -> Result<Cow<'_, RoaringBitmap>, Error>;
    /// Visits the values of a name that start with `prefix`, in order, with their series.
    fn scan(
        &self,
        name: &str,
        prefix: &str,
        visit: &mut dyn FnMut(&str, Listed<'_>) -> Result<Scan, Error>,
    ) -> Result<(), Error>;

    /// The series whose value passes a test.
    fn union_where(&self, test: &Test<'_>, budget: &Budget) -> Result<RoaringBitmap, Error> {
        let (mut union, mut seen) = (Union::default(), 0u64);
        self.scan(test.name(), test.prefix(), &mut |value, listed| {
            seen += 1;
            if seen.is_multiple_of(4096) {
                budget.check("matching labels")?;
            }
            if test.passes(value) {
                union.add_listed(listed)?;
            }
            Ok(Scan::Continue(()))
        })?;
        Ok(union.finish())
    }

    /// The part of a selection that a matcher lets pass, if the source can tell that for less
    /// than a scan of the values costs.
    fn narrow(&self, _selection: &RoaringBitmap, _matcher: &Matcher) -> Result<Option<RoaringBitmap>, Error> {
        Ok(None)
    }
}

/// A condition on the values of one label: that the matcher holds, or that it does not.
#[derive(Debug, Clone, Copy)]
pub struct Test<'a> {
    matcher: &'a Matcher,
    holds: bool,
}

impl<'a> Test<'a> {
    pub fn name(&self) -> &'a str {
        &self.matcher.name
    }

    /// Only values that start with this can pass.
    pub fn prefix(&self) -> &'a str {
        if self.wants_match() { self.matcher.prefix() } else { "" }
    }

    /// The only values that can pass, if these can be told.
    fn values(&self) -> Option<&'a [String]> {
        if self.wants_match() { self.matcher.set_matches() } else { None }
    }

    pub fn passes(&self, value: &str) -> bool {
        self.matcher.matches(value) == self.holds
    }

    /// The same for tests that pass the same values of their label.
    pub(crate) fn cache_key(&self) -> String {
        let wants = if self.wants_match() { '+' } else { '-' };
        let kind = match self.matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => '=',
            MatchOp::Regex | MatchOp::NotRegex => '~',
        };
        format!("{wants}{kind}{}", self.matcher.value)
    }

    /// Whether values pass that the matcher's text or regex, its negation left aside, matches.
    fn wants_match(&self) -> bool {
        self.matcher.is_negative() != self.holds
    }
}

/// The series that all matchers select; all series if there are none.
pub fn resolve<S: PostingsSource + ?Sized>(
    source: &S,
    matchers: &[Matcher],
    budget: &Budget,
) -> Result<RoaringBitmap, Error> {
    let mut plan: Vec<(Cost, &Matcher)> = matchers.iter().map(|m| (Cost::of(m), m)).collect();
    plan.sort_by_key(|(cost, _)| *cost);
    let mut selection: Option<Cow<'_, RoaringBitmap>> = None;
    let exact = plan.iter().take_while(|(cost, _)| *cost == Cost::Exact);
    let mut lists = exact.map(|(_, m)| source.postings(&m.name, &m.value)).collect::<Result<Vec<_>, _>>()?;
    lists.sort_by_key(|list| list.len());
    for list in lists {
        selection = Some(intersect(selection, list));
    }
    for (cost, matcher) in plan.into_iter().filter(|(cost, _)| *cost != Cost::Exact) {
        if selection.as_ref().is_some_and(|s| s.is_empty()) {
            break;
        }
        budget.check("matching labels")?;
        selection = Some(apply(source, selection, cost, matcher, budget)?);
    }
    Ok(match selection {
        Some(selection) => selection.into_owned(),
        None => source.all()?.into_owned(),
    })
}

/// What it takes to apply a matcher, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    /// One look-up, and the label must be there.
    Exact,
    /// The value passes, the label must be there.
    Within,
    /// The value must not fail.
    Without,
}

impl Cost {
    fn of(matcher: &Matcher) -> Self {
        if matcher.matches_empty() {
            Self::Without
        } else if matcher.op == MatchOp::Equal {
            Self::Exact
        } else {
            Self::Within
        }
    }
}

fn apply<'s, S: PostingsSource + ?Sized>(
    source: &'s S,
    selection: Option<Cow<'s, RoaringBitmap>>,
    cost: Cost,
    matcher: &Matcher,
    budget: &Budget,
) -> Result<Cow<'s, RoaringBitmap>, Error> {
    if let Some(selection) = &selection
        && let Some(narrowed) = source.narrow(selection, matcher)?
    {
        return Ok(Cow::Owned(narrowed));
    }
    let values = values_of(source, matcher, cost, budget)?;
    if cost == Cost::Within {
        return Ok(intersect(selection, values));
    }
    let selection = match selection {
        Some(selection) => selection,
        None => source.all()?,
    };
    if values.is_empty() {
        return Ok(selection);
    }
    let mut selection = selection.into_owned();
    selection -= &*values;
    Ok(Cow::Owned(selection))
}

/// The series whose value passes a matcher of cost `Within`, or fails one of cost `Without`.
fn values_of<'s, S: PostingsSource + ?Sized>(
    source: &'s S,
    matcher: &Matcher,
    cost: Cost,
    budget: &Budget,
) -> Result<Cow<'s, RoaringBitmap>, Error> {
    let test = Test { matcher, holds: cost == Cost::Within };
    match (matcher.op, matcher.value.as_str()) {
        // `l=""` and `l!=""`.
        (MatchOp::Equal | MatchOp::NotEqual, "") => source.having(&matcher.name),
        (MatchOp::NotEqual, value) => source.postings(&matcher.name, value),
        (_, ".*") if !test.wants_match() => Ok(Cow::default()),
        (_, ".+" | ".*") if test.wants_match() => source.having(&matcher.name),
        _ => match test.values() {
            Some(values) => union_of(source, &matcher.name, values).map(Cow::Owned),
            None => source.union_where(&test, budget).map(Cow::Owned),
        },
    }
}

fn union_of<S: PostingsSource + ?Sized>(
    source: &S,
    name: &str,
    values: &[String],
) -> Result<RoaringBitmap, Error> {
    let mut lists = Vec::with_capacity(values.len());
    for value in values {
        lists.push(source.postings(name, value)?);
    }
    Ok(lists.iter().map(|list| &**list).union())
}

fn intersect<'s>(
    selection: Option<Cow<'s, RoaringBitmap>>,
    with: Cow<'s, RoaringBitmap>,
) -> Cow<'s, RoaringBitmap> {
    match selection {
        None => with,
        Some(Cow::Owned(mut selection)) => {
            selection &= &*with;
            Cow::Owned(selection)
        }
        Some(Cow::Borrowed(selection)) => Cow::Owned(selection & &*with),
    }
}

/// The union of what several matcher sets select; `None` for all series, if there is no set.
fn resolve_sets<S: PostingsSource + ?Sized>(
    source: &S,
    sets: &[Vec<Matcher>],
    budget: &Budget,
) -> Result<Option<RoaringBitmap>, Error> {
    let mut union: Option<RoaringBitmap> = None;
    for set in sets.iter() {
        let selected = resolve(source, set, budget)?;
        union = Some(match union {
            Some(other) => other | selected,
            None => selected,
        });
    }
    Ok(union)
}

/// The names of all labels of the series that any of the sets selects, sorted; of all series if
/// there is no set.
pub fn label_names<S: PostingsSource + ?Sized>(
    source: &S,
    sets: &[Vec<Matcher>],
    budget: &Budget,
) -> Result<Vec<String>, Error> {
    let names = source.names()?;
    match resolve_sets(source, sets, budget)? {
        None => Ok(names),
        Some(selection) => names_within(source, names, &selection),
    }
}

/// Those of `names` that a series of the selection has.
pub fn names_within<S: PostingsSource + ?Sized>(
    source: &S,
    names: Vec<String>,
    selection: &RoaringBitmap,
) -> Result<Vec<String>, Error> {
    let mut kept = Vec::new();
    for name in names {
        if !source.having(&name)?.is_disjoint(selection) {
            kept.push(name);
        }
    }
    Ok(kept)
}

/// The values that a label has among the series that any of the sets selects, sorted; among all
/// series if there is no set.
pub fn label_values<S: PostingsSource + ?Sized>(
    source: &S,
    name: &str,
    sets: &[Vec<Matcher>],
    budget: &Budget,
) -> Result<Vec<String>, Error> {
    let selection = resolve_sets(source, sets, budget)?;
    values_within(source, name, selection.as_ref(), budget)
}

/// The values that a label has among the series of a selection, sorted; `None` for all series.
pub fn values_within<S: PostingsSource + ?Sized>(
    source: &S,
    name: &str,
    selection: Option<&RoaringBitmap>,
    budget: &Budget,
) -> Result<Vec<String>, Error> {
    let (mut values, mut seen) = (Vec::new(), 0u64);
    source.scan(name, "", &mut |value, listed| {
        seen += 1;
        if seen.is_multiple_of(4096) {
            budget.check("listing label values")?;
        }
        let within = match selection {
            Some(selection) => listed.intersects(selection)?,
            None => true,
        };
        if within {
            values.push(value.to_owned());
        }
        Ok(Scan::Continue(()))
    })?;
    Ok(values)
}
