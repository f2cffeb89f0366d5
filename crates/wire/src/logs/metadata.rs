//! Structured metadata: names made fit, pairs put in order, sets shared within a request.

use std::borrow::Cow;
use std::ops::Range;

use pilothouse_model::Labels;
use xxhash_rust::xxh3::xxh3_64;

/// The metadata of the entry at hand. Used again and again.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    text: String,
    pairs: Vec<(Range<u32>, Range<u32>)>,
    /// As the entry came: pairs, and bytes of names and values.
    sent_pairs: u64,
    sent_bytes: u64,
}

impl Metadata {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.pairs.clear();
        (self.sent_pairs, self.sent_bytes) = (0, 0);
    }

    pub(crate) fn sent_pairs(&self) -> u64 {
        self.sent_pairs
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Adds a pair as a client sent it. Characters that are no UTF-8 are blanks in a value, as
    /// Loki writes them.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.sent_pairs += 1;
        self.sent_bytes += (name.len() + value.len()) as u64;
        let value: Cow<'_, str> = match value.contains('\u{fffd}') {
            true => Cow::Owned(value.replace('\u{fffd}', " ")),
            false => Cow::Borrowed(value),
        };
        self.set(&label_name(name), &value);
    }

    /// Adds a pair whose name is fit.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let name = self.append(name);
        let value = self.append(value);
        self.pairs.push((name, value));
    }

    fn append(&mut self, text: &str) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        start..self.text.len() as u32
    }

    /// Puts the pairs in order by name. Of equal names the last stays; pairs without a value, or
    /// without a name, go.
    pub(crate) fn seal(&mut self) {
        let text = &self.text;
        let of = |range: &Range<u32>| part(text, range);
        if !self.pairs.is_sorted_by(|a, b| of(&a.0) < of(&b.0)) {
            self.pairs.sort_by(|a, b| of(&a.0).cmp(of(&b.0)));
            self.pairs.dedup_by(|later, kept| {
                let same = of(&later.0) == of(&kept.0);
                if same {
                    kept.1 = later.1.clone();
                }
                same
            });
        }
        self.pairs.retain(|(name, value)| !name.is_empty() && !value.is_empty());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pairs.iter().map(|(name, value)| (part(&self.text, name), part(&self.text, value)))
    }
}

fn part<'t>(text: &'t str, range: &Range<u32>) -> &'t str {
    text.get(range.start as usize..range.end as usize).unwrap_or("")
}

/// The name under which Loki stores metadata and attributes: letters and digits, all else a
/// single underscore (runs of them too); a digit in front gets `key_`, and `__name__` keeps its
/// outer underscores. Loki fails the whole push for a name of underscores alone; here it stays.
pub(crate) fn label_name(name: &str) -> Cow<'_, str> {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.bytes().all(is_fit) && !name.contains("__") && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Cow::Borrowed(name);
    }
    let inner = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    let mut out = String::with_capacity(name.len() + 4);
    out.push_str(if inner.is_some() { "__" } else { "" });
    let start = out.len();
    for c in inner.unwrap_or(name).chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if out.len() == start || !out.ends_with('_') {
            out.push('_');
        }
    }
    out.push_str(if inner.is_some() { "__" } else { "" });
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "key_");
    }
    Cow::Owned(out)
}

/// Sets met in this request, each place the last set that fell there: so the memory is bounded
/// however many sets there are, and the few that nearly all entries have are shared.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    places: Vec<Labels>,
    scratch: String,
}

const PLACES: usize = 1024;

impl Sets {
    /// The set of sealed pairs.
    pub(crate) fn of<'m>(&mut self, pairs: impl Iterator<Item = (&'m str, &'m str)>) -> Labels {
        self.scratch.clear();
        Labels::encode(&mut self.scratch, pairs);
        if self.scratch.is_empty() {
            return Labels::empty();
        }
        if self.places.is_empty() {
            self.places.resize(PLACES, Labels::empty());
        }
        let place = &mut self.places[xxh3_64(self.scratch.as_bytes()) as usize % PLACES];
        if place.as_encoded() != self.scratch {
            *place = Labels::from_encoded(&self.scratch).unwrap_or_default();
        }
        place.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_as_loki_does() {
        for (name, fit) in [
            ("trace_id", "trace_id"),
            ("dotted.name", "dotted_name"),
            ("a..b", "a_b"),
            ("a__b", "a_b"),
            ("a-.b", "a_b"),
            ("größe", "gr_e"),
            ("1st", "key_1st"),
            ("_private", "_private"),
            (".hidden", "_hidden"),
            ("__reserved__", "__reserved__"),
            ("__a.b__", "__a_b__"),
            ("__a", "_a"),
            ("a__", "a_"),
            ("日本", "_"),
            ("_", "_"),
            ("", ""),
        ] {
            assert_eq!(label_name(name), fit, "{name}");
        }
    }

    #[test]
    fn pairs_are_sorted_and_the_last_of_a_name_stays() {
        let mut metadata = Metadata::default();
        for (name, value) in [("b", "1"), ("a.c", "x"), ("b", "2"), ("c", ""), ("a", "\u{fffd}y"), ("", "z")]
        {
            metadata.push(name, value);
        }
        assert_eq!((metadata.sent_pairs(), metadata.sent_bytes()), (6, 15));
        metadata.seal();
        assert_eq!(metadata.iter().collect::<Vec<_>>(), [("a", " y"), ("a_c", "x"), ("b", "2")]);
        let mut sets = Sets::default();
        let set = sets.of(metadata.iter());
        assert_eq!(set.to_string(), r#"{a=" y", a_c="x", b="2"}"#);
        assert_eq!(sets.of(metadata.iter()), set);
    }
}
