//! Silences: matchers, from when to when, who and why.
//!
//! Each is durable before it holds. Past ones are kept for a while as history, and then
//! forgotten.

use std::collections::BTreeMap;

use pilothouse_model::limits::{Limits, SILENCES_BYTES};
use pilothouse_model::matcher::Pattern;
use pilothouse_model::{Labels, MatchOp, Matcher, StateChange};
use serde::{Deserialize, Serialize};

use crate::matchers::{self, match_all};
use crate::selector::Selector;
use crate::work::Slice;

/// Where silences are kept.
pub const TABLE: &str = "alertmanager_silences";
/// The first byte of each record.
const VERSION: u8 = 1;
/// How long a silence is kept after its end.
pub const RETENTION_MS: i64 = 120 * 3_600_000;

/// A matcher as clients write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatcherText {
    pub name: String,
    pub value: String,
    pub is_regex: bool,
    pub is_equal: bool,
}

impl MatcherText {
    pub fn op(&self) -> MatchOp {
        match (self.is_regex, self.is_equal) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Regex,
            (true, false) => MatchOp::NotRegex,
        }
    }

    fn compile(&self) -> Result<Matcher, String> {
        if self.name.is_empty() {
            return Err("invalid label name \"\"".to_owned());
        }
        matchers::compile(self.op(), &self.name, &self.value)
            .map_err(|e| format!("invalid regular expression {:?}: {e}", self.value))
    }
}

/// A silence that a client wants. An `id` means to change that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub id: String,
    pub matchers: Vec<MatcherText>,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub created_by: String,
    pub comment: String,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    pub matchers: Vec<MatcherText>,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub updated_at_ms: i64,
    pub created_by: String,
    pub comment: String,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceState {
    Active,
    Pending,
    Expired,
}

impl SilenceState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

impl Silence {
    pub fn state(&self, now_ms: i64) -> SilenceState {
        if now_ms < self.starts_at_ms {
            SilenceState::Pending
        } else if now_ms >= self.ends_at_ms {
            SilenceState::Expired
        } else {
            SilenceState::Active
        }
    }

    /// Whether the silence may become what is wanted and keep its name.
    fn can_become(&self, wanted: &Wanted, now_ms: i64) -> bool {
        self.matchers == wanted.matchers
            && match self.state(now_ms) {
                SilenceState::Active => {
                    self.starts_at_ms / 1000 == wanted.starts_at_ms / 1000 && wanted.ends_at_ms >= now_ms
                }
                SilenceState::Pending => wanted.starts_at_ms >= now_ms,
                SilenceState::Expired => false,
            }
    }
}

/// Why a silence is not taken; Alertmanager's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    #[error("silence not found")]
    NotFound,
    #[error("{0}")]
    Invalid(String),
}

impl SilenceError {
    fn invalid(text: impl std::fmt::Display) -> Self {
        Self::Invalid(format!("invalid silence: {text}"))
    }
}

#[derive(Debug)]
struct Kept {
    silence: Silence,
    matchers: Vec<Matcher>,
    bytes: u64,
}

/// All silences, by id.
#[derive(Debug, Default)]
pub struct Silences {
    kept: BTreeMap<String, Kept>,
    by_matchers: Selector<String>,
    /// What all of them take in memory, about.
    bytes: u64,
}

/// What a change did, so that it can be made durable, or taken back where that fails.
#[derive(Debug)]
#[must_use]
pub struct Changed {
    pub id: String,
    before: Vec<(String, Option<Silence>)>,
}

impl Silences {
    /// Reads what was kept. Records that cannot be read are left out and counted.
    pub fn load(records: Vec<(String, Vec<u8>)>) -> (Self, usize) {
        let mut silences = Self::default();
        let mut unreadable = 0;
        for (_, bytes) in records {
            let read = match bytes.split_first() {
                Some((&VERSION, json)) => serde_json::from_slice::<Silence>(json).ok(),
                _ => None,
            };
            match read.and_then(|s| Some((compile(&s.matchers).ok()?, s))) {
                Some((matchers, silence)) => silences.insert(silence, matchers),
                None => unreadable += 1,
            }
        }
        (silences, unreadable)
    }

    fn insert(&mut self, silence: Silence, matchers: Vec<Matcher>) {
        self.remove(&silence.id.clone());
        let compiled: usize = matchers.iter().filter_map(Matcher::pattern).map(Pattern::bytes).sum();
        // Texts stand in it twice, as they were written and as matchers.
        let bytes = (2 * encode(&silence).len() + compiled) as u64;
        self.bytes += bytes;
        self.by_matchers.insert(silence.id.clone(), &matchers);
        self.kept.insert(silence.id.clone(), Kept { silence, matchers, bytes });
    }

    fn remove(&mut self, id: &String) {
        let Some(kept) = self.kept.remove(id) else { return };
        self.by_matchers.remove(id, &kept.matchers);
        self.bytes -= kept.bytes;
    }

    /// Makes or changes a silence. One that cannot be changed as wanted is ended, and a new one
    /// made.
    pub fn set(
        &mut self,
        wanted: Wanted,
        new_id: String,
        now_ms: i64,
        limits: &Limits,
    ) -> Result<Changed, SilenceError> {
        let matchers = check(&wanted)?;
        let existing = self.kept.get(&wanted.id).map(|k| k.silence.clone());
        if !wanted.id.is_empty() && existing.is_none() {
            return Err(SilenceError::NotFound);
        }
        let updates = existing.as_ref().is_some_and(|s| s.can_become(&wanted, now_ms));
        let surplus = self.surplus(!updates, now_ms, limits)?;
        let silence = Silence {
            id: if updates { wanted.id } else { new_id },
            matchers: wanted.matchers,
            starts_at_ms: if updates { wanted.starts_at_ms } else { wanted.starts_at_ms.max(now_ms) },
            ends_at_ms: wanted.ends_at_ms,
            updated_at_ms: now_ms,
            created_by: wanted.created_by,
            comment: wanted.comment,
            annotations: wanted.annotations,
        };
        check_size(&silence, limits)?;
        let mut before = self.drop_all(surplus);
        if !updates && let Some(old) = existing {
            before.extend(self.end(&old.id, now_ms));
        }
        let id = silence.id.clone();
        before.push((id.clone(), self.kept.get(&id).map(|k| k.silence.clone())));
        self.insert(silence, matchers);
        Ok(Changed { id, before })
    }

    /// Past silences that make room for another one, the oldest first; an error where these do not
    /// suffice.
    fn surplus(&self, is_new: bool, now_ms: i64, limits: &Limits) -> Result<Vec<String>, SilenceError> {
        let (mut count, mut bytes) = (self.kept.len() as u64 + u64::from(is_new), self.bytes);
        let fits = |count, bytes| (!is_new || count <= limits.max_silences, bytes <= SILENCES_BYTES);
        if fits(count, bytes) == (true, true) {
            return Ok(Vec::new());
        }
        let mut past: Vec<&Kept> =
            self.kept.values().filter(|k| k.silence.state(now_ms) == SilenceState::Expired).collect();
        past.sort_by_key(|k| k.silence.ends_at_ms);
        let mut surplus = Vec::new();
        for kept in past {
            if fits(count, bytes) == (true, true) {
                break;
            }
            (count, bytes) = (count - 1, bytes.saturating_sub(kept.bytes));
            surplus.push(kept.silence.id.clone());
        }
        match fits(count, bytes) {
            (true, true) => Ok(surplus),
            (false, _) => Err(SilenceError::Invalid(format!(
                "exceeded maximum number of silences: {} (limit: {})",
                self.kept.len(),
                limits.max_silences
            ))),
            (true, false) => Err(SilenceError::Invalid(format!(
                "silences exceeded maximum size: {bytes} bytes (limit: {SILENCES_BYTES} bytes)"
            ))),
        }
    }

    /// Forgets silences, and gives what each was.
    fn drop_all(&mut self, ids: Vec<String>) -> Vec<(String, Option<Silence>)> {
        let mut dropped = Vec::new();
        for id in ids {
            let before = self.kept.get(&id).map(|k| k.silence.clone());
            self.remove(&id);
            dropped.push((id, before));
        }
        dropped
    }

    /// Ends a silence now; one that is over stays as it is.
    pub fn expire(&mut self, id: &str, now_ms: i64) -> Result<Changed, SilenceError> {
        if !self.kept.contains_key(id) {
            return Err(SilenceError::NotFound);
        }
        let before = self.end(id, now_ms).into_iter().collect();
        Ok(Changed { id: id.to_owned(), before })
    }

    fn end(&mut self, id: &str, now_ms: i64) -> Option<(String, Option<Silence>)> {
        let kept = self.kept.get_mut(id).filter(|k| k.silence.state(now_ms) != SilenceState::Expired)?;
        let before = kept.silence.clone();
        kept.silence.starts_at_ms = kept.silence.starts_at_ms.min(now_ms);
        kept.silence.ends_at_ms = now_ms;
        kept.silence.updated_at_ms = now_ms;
        Some((id.to_owned(), Some(before)))
    }

    /// What has to be written for a change to last.
    pub fn records(&self, changed: &Changed) -> Vec<StateChange> {
        let of = |id: &String| StateChange {
            table: TABLE,
            key: id.clone(),
            value: self.kept.get(id).map(|k| encode(&k.silence)),
        };
        changed.before.iter().map(|(id, _)| of(id)).collect()
    }

    /// Takes a change back that could not be written.
    pub fn revert(&mut self, changed: Changed) {
        for (id, before) in changed.before.into_iter().rev() {
            match before.and_then(|s| Some((compile(&s.matchers).ok()?, s))) {
                Some((matchers, silence)) => self.insert(silence, matchers),
                None => self.remove(&id),
            }
        }
    }

    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.kept.get(id).map(|k| &k.silence)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.kept.values().map(|k| &k.silence)
    }

    /// The active silences that hold for a label set, by id.
    pub fn silencing(&self, labels: &Labels, now_ms: i64) -> Vec<String> {
        self.holding(labels, now_ms, &mut Slice::endless()).map(|s| s.id.clone()).collect()
    }

    /// The same, one by one.
    pub(crate) fn holding(
        &self,
        labels: &Labels,
        now_ms: i64,
        slice: &mut Slice,
    ) -> impl Iterator<Item = &Silence> {
        let candidates = self.by_matchers.candidates(labels);
        slice.spend(candidates.len());
        let kept = candidates.into_iter().filter_map(|id| self.kept.get(id));
        let active = kept.filter(move |k| k.silence.state(now_ms) == SilenceState::Active);
        active.filter(|k| match_all(&k.matchers, labels)).map(|k| &k.silence)
    }

    pub fn held_bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets the silences that ended long ago.
    pub(crate) fn forget(&mut self, now_ms: i64) -> Vec<StateChange> {
        let is_old = |k: &Kept| k.silence.ends_at_ms.saturating_add(RETENTION_MS) <= now_ms;
        let old: Vec<String> =
            self.kept.values().filter(|k| is_old(k)).map(|k| k.silence.id.clone()).collect();
        old.iter().for_each(|id| self.remove(id));
        old.into_iter().map(|key| StateChange { table: TABLE, key, value: None }).collect()
    }
}

fn encode(silence: &Silence) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // A structure of texts and numbers; writing to memory does not fail.
    let _ = serde_json::to_writer(&mut bytes, silence);
    bytes
}

/// What one silence may take on the disk.
fn check_size(silence: &Silence, limits: &Limits) -> Result<(), SilenceError> {
    let (size, most) = (encode(silence).len() as u64, limits.max_silence_bytes);
    if most > 0 && size > most {
        return Err(SilenceError::Invalid(format!(
            "silence exceeded maximum size: {size} bytes (limit: {most} bytes)"
        )));
    }
    Ok(())
}

fn compile(matchers: &[MatcherText]) -> Result<Vec<Matcher>, String> {
    matchers::begin_text();
    let compiled = matchers
        .iter()
        .enumerate()
        .map(|(i, m)| m.compile().map_err(|why| format!("invalid label matcher {i} in set 0: {why}")));
    compiled.collect()
}

fn check(wanted: &Wanted) -> Result<Vec<Matcher>, SilenceError> {
    if wanted.matchers.is_empty() {
        return Err(SilenceError::invalid("matcher set 0 is empty"));
    }
    let matchers = compile(&wanted.matchers).map_err(SilenceError::invalid)?;
    // Matchers that exclude something never count as empty, whatever they exclude.
    let is_empty = |m: &Matcher| matches!(m.op, MatchOp::Equal | MatchOp::Regex) && m.matches_empty();
    if matchers.iter().all(is_empty) {
        return Err(SilenceError::invalid(
            "matcher set 0: at least one matcher must not match the empty string",
        ));
    }
    if wanted.ends_at_ms < wanted.starts_at_ms {
        return Err(SilenceError::invalid("end time must not be before start time"));
    }
    Ok(matchers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(id: &str, value: &str, from: i64, to: i64) -> Wanted {
        Wanted {
            id: id.to_owned(),
            matchers: vec![MatcherText {
                name: "a".into(),
                value: value.into(),
                is_regex: false,
                is_equal: true,
            }],
            starts_at_ms: from,
            ends_at_ms: to,
            created_by: "me".into(),
            comment: "why".into(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn a_silence_is_changed_in_place_or_replaced() {
        let limits = Limits::default();
        let mut silences = Silences::default();
        let id = silences.set(wanted("", "x", 0, 9_000), "1".into(), 1_000, &limits).unwrap().id;
        assert_eq!(silences.get(&id).unwrap().starts_at_ms, 1_000);
        let longer = silences.set(wanted("1", "x", 1_000, 20_000), "2".into(), 2_000, &limits).unwrap();
        assert_eq!((longer.id.as_str(), silences.get("1").unwrap().ends_at_ms), ("1", 20_000));
        let other = silences.set(wanted("1", "y", 1_000, 20_000), "3".into(), 3_000, &limits).unwrap();
        assert_eq!(other.id, "3");
        assert_eq!(silences.get("1").unwrap().state(3_000), SilenceState::Expired);
        assert_eq!(silences.records(&other).len(), 2);
        silences.revert(other);
        assert_eq!(silences.get("1").unwrap().state(3_000), SilenceState::Active);
        assert!(silences.get("3").is_none());
        assert_eq!(
            silences.set(wanted("9", "y", 1, 2), "4".into(), 0, &limits).unwrap_err(),
            SilenceError::NotFound
        );
    }

    #[test]
    fn past_silences_make_room_for_new_ones() {
        let limits = Limits { max_silences: 3, ..Limits::default() };
        let mut silences = Silences::default();
        for (id, to) in [("1", 3_000), ("2", 2_000), ("3", 90_000)] {
            let _ = silences.set(wanted("", id, 0, to), id.into(), 0, &limits).unwrap();
        }
        let refused = silences.set(wanted("", "4", 0, 90_000), "4".into(), 1_999, &limits);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "exceeded maximum number of silences: 3 (limit: 3)",
            "none is over yet"
        );
        let changed = silences.set(wanted("", "4", 0, 90_000), "4".into(), 5_000, &limits).unwrap();
        let ids = |silences: &Silences| silences.iter().map(|s| s.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&silences), ["1", "3", "4"], "the one that ended first is gone");
        let written: Vec<(String, bool)> =
            silences.records(&changed).into_iter().map(|c| (c.key, c.value.is_some())).collect();
        assert_eq!(written, [("2".to_owned(), false), ("4".to_owned(), true)]);
        silences.revert(changed);
        assert_eq!(ids(&silences), ["1", "2", "3"], "it was not written down");
        let _ = silences.set(wanted("", "5", 0, 90_000), "5".into(), 5_000, &limits).unwrap();
        let _ = silences.set(wanted("", "6", 0, 90_000), "6".into(), 5_000, &limits).unwrap();
        assert_eq!(ids(&silences), ["3", "5", "6"]);
    }

    #[test]
    fn silences_hold_from_start_to_end_and_outlive_a_restart() {
        let limits = Limits::default();
        let mut silences = Silences::default();
        let changed = silences.set(wanted("", "x", 5_000, 9_000), "1".into(), 1_000, &limits).unwrap();
        let records = silences.records(&changed);
        let kept = records.into_iter().map(|c| (c.key, c.value.unwrap())).collect();
        let (silences, unreadable) = Silences::load(kept);
        assert_eq!(unreadable, 0);
        let labels = Labels::from_pairs([("a", "x")]);
        for (now, holds) in [(4_999, false), (5_000, true), (8_999, true), (9_000, false)] {
            assert_eq!(!silences.silencing(&labels, now).is_empty(), holds, "{now}");
        }
        assert!(silences.silencing(&Labels::from_pairs([("a", "y")]), 6_000).is_empty());
        assert_eq!(Silences::load(vec![("1".into(), vec![9, 1])]).1, 1);
    }

    #[test]
    fn what_is_wrong_is_said_in_alertmanagers_words() {
        let mut empty = wanted("", "", 0, 1);
        let set = |w: Wanted| {
            Silences::default().set(w, "1".into(), 0, &Limits::default()).unwrap_err().to_string()
        };
        assert_eq!(
            set(empty.clone()),
            "invalid silence: matcher set 0: at least one matcher must not match the empty string"
        );
        let mut excluding = empty.clone();
        excluding.matchers[0].is_equal = false;
        excluding.matchers[0].value = "x".to_owned();
        assert!(Silences::default().set(excluding, "1".into(), 0, &Limits::default()).is_ok());
        empty.matchers.clear();
        assert_eq!(set(empty), "invalid silence: matcher set 0 is empty");
        assert_eq!(set(wanted("", "x", 5, 1)), "invalid silence: end time must not be before start time");
        let mut bad = wanted("", "(", 0, 1);
        bad.matchers[0].is_regex = true;
        assert!(set(bad).starts_with("invalid silence: invalid label matcher 0 in set 0: invalid regular"));
    }
}
