//! What a line must contain for an expression to match, read off the expression.

use pilothouse_model::logs::Literal;
use pilothouse_model::matcher::re2::{self, Groups};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

fn parse(pattern: &str) -> Option<Hir> {
    re2::parse_line(pattern, Groups::Ignore).ok().map(|expression| expression.hir)
}

const MAX_TEXTS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// `.*`
    Any,
    /// `.+`
    Some,
}

/// `.*` or `.+` within a line, greedy or not.
pub(crate) fn dot_run(hir: &Hir) -> Option<Run> {
    let HirKind::Repetition(repetition) = hir.kind() else { return None };
    let HirKind::Class(Class::Unicode(class)) = repetition.sub.kind() else { return None };
    let is_dot = matches!(class.ranges(), [low, high]
        if (low.start(), low.end(), high.start(), high.end()) == ('\0', '\t', '\u{b}', char::MAX));
    match (repetition.min, repetition.max) {
        (0, None) if is_dot => Some(Run::Any),
        (1, None) if is_dot => Some(Run::Some),
        _ => None,
    }
}

/// One text made of literals and of classes that hold the two cases of one ASCII letter.
pub(crate) fn literal_of(parts: &[&Hir]) -> Option<Literal> {
    let (mut text, mut folded, mut exact) = (String::new(), false, false);
    for part in parts {
        match part.kind() {
            HirKind::Empty => {}
            HirKind::Literal(literal) => {
                let literal = std::str::from_utf8(&literal.0).ok()?;
                exact |= literal.chars().any(char::is_alphabetic);
                text.push_str(literal);
            }
            HirKind::Class(class) => {
                text.push(case_pair(class)?);
                folded = true;
            }
            HirKind::Capture(capture) => {
                let inner = literal_of(&[&capture.sub])?;
                folded |= inner.fold_case;
                exact |= !inner.fold_case && inner.text.chars().any(char::is_alphabetic);
                text.push_str(&inner.text);
            }
            _ => return None,
        }
    }
    // A mixture of exact and folded letters cannot be said with one flag.
    (!(folded && exact)).then_some(Literal { text, fold_case: folded })
}

/// The lower-case letter of a class that holds an ASCII letter in both cases, and perhaps what
/// Unicode folds to it (`k` and the Kelvin sign, `s` and the long s).
fn case_pair(class: &Class) -> Option<char> {
    let Class::Unicode(class) = class else { return None };
    let mut letter = None;
    for range in class.ranges() {
        if range.start() != range.end() {
            return None;
        }
        match range.start() {
            c if c.is_ascii_alphabetic() => {
                let lower = c.to_ascii_lowercase();
                if letter.is_some_and(|l| l != lower) {
                    return None;
                }
                letter = Some(lower);
            }
            '\u{17f}' | '\u{212a}' => {}
            _ => return None,
        }
    }
    letter
}

/// What every match of an unanchored expression contains, as alternatives of literals. Empty
/// where nothing is certain.
pub(crate) fn demanded(pattern: &str) -> Vec<Vec<Literal>> {
    let Some(hir) = parse(pattern) else { return Vec::new() };
    let alternatives = demands(&hir);
    if alternatives.len() > MAX_TEXTS || alternatives.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    alternatives
}

/// Alternatives, each a list of texts that occur; `vec![vec![]]` says nothing.
fn demands(hir: &Hir) -> Vec<Vec<Literal>> {
    let nothing = || vec![Vec::new()];
    match hir.kind() {
        HirKind::Literal(_) => match literal_of(&[hir]) {
            Some(literal) => vec![vec![literal]],
            None => nothing(),
        },
        HirKind::Capture(capture) => demands(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => demands(&repetition.sub),
        HirKind::Alternation(parts) => {
            let all: Vec<_> = parts.iter().flat_map(demands).collect();
            if all.len() > MAX_TEXTS || all.iter().any(Vec::is_empty) { nothing() } else { all }
        }
        HirKind::Concat(parts) => concat_demands(parts),
        _ => nothing(),
    }
}

fn concat_demands(parts: &[Hir]) -> Vec<Vec<Literal>> {
    let mut certain: Vec<Literal> = Vec::new();
    let mut choice: Option<Vec<Vec<Literal>>> = None;
    let mut i = 0;
    while i < parts.len() {
        // The longest run of letters that is one text.
        let mut end = i;
        while end < parts.len() && matches!(parts[end].kind(), HirKind::Literal(_) | HirKind::Class(_)) {
            end += 1;
        }
        let run: Vec<&Hir> = parts[i..end].iter().collect();
        if let Some(literal) = (!run.is_empty()).then(|| literal_of(&run)).flatten() {
            certain.push(literal);
            i = end;
            continue;
        }
        if !is_look(&parts[i]) {
            match demands(&parts[i]) {
                one if one.len() == 1 => certain.extend(one.into_iter().flatten()),
                many => choice = choice.or(Some(many)),
            }
        }
        i += 1;
    }
    match choice {
        None => vec![certain],
        Some(many) => many.into_iter().map(|alternative| [certain.clone(), alternative].concat()).collect(),
    }
}

fn is_look(hir: &Hir) -> bool {
    matches!(
        hir.kind(),
        HirKind::Look(
            Look::Start | Look::End | Look::StartLF | Look::EndLF | Look::WordAscii | Look::WordAsciiNegate
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_off() {
        let show = |literals: &[Literal]| {
            literals
                .iter()
                .map(|l| format!("{}{}", l.text, if l.fold_case { "/i" } else { "" }))
                .collect::<Vec<_>>()
                .join("|")
        };
        for (pattern, demanded_texts) in [
            ("error", "error"),
            (".*error.*", "error"),
            ("error|warn", "error;warn"),
            ("(?i)Error", "error/i"),
            ("a.*b", "a|b"),
            ("n=[0-3]$", "n="),
            ("x?yz+", "y|z"),
            ("(foo|bar)baz", "baz|foo;baz|bar"),
            ("[a-z]+", ""),
            ("", ""),
            (".*", ""),
        ] {
            let demanded: Vec<_> = demanded(pattern).iter().map(|a| show(a)).collect();
            assert_eq!(demanded.join(";"), demanded_texts, "{pattern}");
        }
    }
}
