//! Expressions that mean a few texts, alone or with something around them.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

use super::pattern::Anchoring;

/// Texts of one expression, where alternatives name them.
const MAX_TEXTS: usize = 1 << 14;
/// Texts that are combined of parts or spelled out of classes; more of them are no gain.
const MAX_COMBINED: usize = 256;
/// Texts that are looked for one by one within another.
const MAX_SOUGHT: usize = 16;

/// What may stand before or behind a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    Nothing,
    Anything,
    /// At least one character.
    Something,
}

/// What an expression looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// No text in particular.
    Any(Gap),
    /// One of some texts, sorted.
    Texts { before: Gap, texts: Vec<String>, after: Gap },
    /// Something that takes an automaton, behind a known begin.
    Other { prefix: String },
}

impl Shape {
    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Any(gap) => fits(*gap, text),
            Self::Other { prefix } => text.starts_with(prefix),
            Self::Texts { before: Gap::Nothing, texts, after: Gap::Nothing } => {
                texts.binary_search_by(|t| t.as_str().cmp(text)).is_ok()
            }
            Self::Texts { before: Gap::Nothing, texts, after } => {
                texts.iter().any(|t| text.strip_prefix(t.as_str()).is_some_and(|rest| fits(*after, rest)))
            }
            Self::Texts { before, texts, after: Gap::Nothing } => {
                texts.iter().any(|t| text.strip_suffix(t.as_str()).is_some_and(|rest| fits(*before, rest)))
            }
            Self::Texts { texts, .. } => texts.iter().any(|t| text.contains(t.as_str())),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Texts { texts, .. } => texts.iter().map(|t| t.len() + size_of::<String>()).sum(),
            Self::Any(_) | Self::Other { .. } => 0,
        }
    }
}

fn fits(gap: Gap, text: &str) -> bool {
    match gap {
        Gap::Nothing => text.is_empty(),
        Gap::Anything => true,
        Gap::Something => !text.is_empty(),
    }
}

/// The shape of an expression without captures.
pub(super) fn of(hir: &Hir, anchoring: Anchoring) -> Shape {
    let parts: &[Hir] = match hir.kind() {
        HirKind::Concat(parts) => parts,
        _ => std::slice::from_ref(hir),
    };
    let around = if anchoring == Anchoring::Part { Gap::Anything } else { Gap::Nothing };
    let (before, parts) = take_gap(parts, around, Look::Start, <[Hir]>::split_first);
    let (after, parts) = take_gap(parts, around, Look::End, <[Hir]>::split_last);
    let prefix = || if before == Gap::Nothing { leading_text(parts) } else { String::new() };
    let other = || Shape::Other { prefix: prefix() };
    let ends = [before, after];
    let somethings = ends.iter().filter(|g| **g == Gap::Something).count();
    if parts.is_empty() {
        return if somethings < 2 { Shape::Any(before.max(after)) } else { other() };
    }
    let Some(mut texts) = texts_of_all(parts) else { return other() };
    let exact = ends == [Gap::Nothing, Gap::Nothing];
    let inside = !ends.contains(&Gap::Nothing);
    if inside && somethings > 0 || !exact && texts.len() > MAX_SOUGHT {
        return other();
    }
    if inside && texts.iter().any(String::is_empty) {
        return Shape::Any(Gap::Anything);
    }
    texts.sort_unstable();
    texts.dedup();
    Shape::Texts { before, texts, after }
}

/// Takes one part off one end.
type SplitEnd = fn(&[Hir]) -> Option<(&Hir, &[Hir])>;

/// Takes anchors and gaps off one end, as far as a single [`Gap`] can stand for them. `around` is
/// what may stand there anyway.
fn take_gap(mut parts: &[Hir], around: Gap, anchor: Look, next: SplitEnd) -> (Gap, &[Hir]) {
    let mut gap = around;
    while let Some((part, rest)) = next(parts) {
        gap = match (gap_of(part), part.kind()) {
            // What may be empty has to be so beyond an anchor.
            (None, HirKind::Look(look)) if *look == anchor && gap != Gap::Something => Gap::Nothing,
            (Some(Gap::Something), _) if gap == Gap::Something => break,
            (Some(more), _) => gap.max(more),
            _ => break,
        };
        parts = rest;
    }
    (gap, parts)
}

/// `.*` and `.+`, which match line feeds too.
fn gap_of(hir: &Hir) -> Option<Gap> {
    let HirKind::Repetition(Repetition { min, max: None, sub, .. }) = hir.kind() else { return None };
    let HirKind::Class(Class::Unicode(class)) = sub.kind() else { return None };
    if class.ranges() != [ClassUnicodeRange::new('\0', char::MAX)] {
        return None;
    }
    match min {
        0 => Some(Gap::Anything),
        1 => Some(Gap::Something),
        _ => None,
    }
}

/// All texts that an expression matches, if they are few.
fn texts_of(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![String::from_utf8(literal.0.to_vec()).ok()?]),
        HirKind::Class(Class::Unicode(class)) => members(class),
        HirKind::Concat(parts) => texts_of_all(parts),
        HirKind::Alternation(alternatives) => {
            let mut texts = Vec::new();
            for alternative in alternatives {
                texts.append(&mut texts_of(alternative)?);
                if texts.len() > MAX_TEXTS {
                    return None;
                }
            }
            Some(texts)
        }
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            let mut texts = texts_of(sub)?;
            texts.push(String::new());
            Some(texts)
        }
        HirKind::Capture(capture) => texts_of(&capture.sub),
        HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

fn members(class: &ClassUnicode) -> Option<Vec<String>> {
    let count: usize = class.ranges().iter().map(ClassUnicodeRange::len).sum();
    let all = || class.iter().flat_map(|range| range.start()..=range.end());
    (count <= MAX_COMBINED).then(|| all().map(String::from).collect())
}

/// All texts that are one of each part, in order.
fn texts_of_all(parts: &[Hir]) -> Option<Vec<String>> {
    let mut texts = vec![String::new()];
    for part in parts {
        let mut more = texts_of(part)?;
        if let [single] = more.as_slice() {
            texts.iter_mut().for_each(|t| t.push_str(single));
        } else if let [single] = texts.as_slice() {
            more.iter_mut().for_each(|t| t.insert_str(0, single));
            texts = more;
        } else if texts.len() * more.len() <= MAX_COMBINED {
            texts = texts.iter().flat_map(|t| more.iter().map(move |m| format!("{t}{m}"))).collect();
        } else {
            return None;
        }
    }
    Some(texts)
}

/// The text that all matches begin with.
fn leading_text(parts: &[Hir]) -> String {
    let mut prefix = String::new();
    for part in parts {
        match part.kind() {
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => prefix.push_str(text),
                Err(_) => break,
            },
            HirKind::Concat(inner) => {
                prefix.push_str(&leading_text(inner));
                break;
            }
            _ => break,
        }
    }
    prefix
}
