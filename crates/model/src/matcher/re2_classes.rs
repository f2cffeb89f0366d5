//! The named character classes of RE2.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// The members of a class and everything that equals them but for case.
pub(super) fn folded(mut class: ClassUnicode) -> ClassUnicode {
    // Fails only without Unicode tables, which the workspace always builds in.
    let _ = class.try_case_fold_simple();
    class
}

/// The characters with numbers from `low` to `high`; there are none among the surrogates.
pub(super) fn range(low: u32, high: u32) -> Option<ClassUnicodeRange> {
    let low = char::from_u32(low).unwrap_or('\u{e000}');
    let high = char::from_u32(high).unwrap_or('\u{d7ff}');
    (low <= high).then(|| ClassUnicodeRange::new(low, high))
}

/// `\d`, `\s`, `\w` and their negations, all ASCII.
pub(super) fn perl(letter: char, fold_case: bool) -> Option<ClassUnicode> {
    let name = match letter.to_ascii_lowercase() {
        'd' => "digit",
        // Without the vertical tab, which the POSIX class has.
        's' => {
            return Some(finish(of(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]), letter == 'S', fold_case));
        }
        'w' => "word",
        _ => return None,
    };
    Some(finish(of(posix_ranges(name)?), letter.is_ascii_uppercase(), fold_case))
}

/// The class `[:name:]` or `[:^name:]`, by what stands between the colons.
pub(super) fn posix(name: &str, fold_case: bool) -> Option<ClassUnicode> {
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, true),
        None => (name, false),
    };
    Some(finish(of(posix_ranges(name)?), negated, fold_case))
}

fn posix_ranges(name: &str) -> Option<&'static [(char, char)]> {
    Some(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    })
}

/// `\p{name}`: a general category or a script of Unicode. A leading `^` negates once more.
pub(super) fn unicode(name: &str, negated: bool, fold_case: bool) -> Option<ClassUnicode> {
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, !negated),
        None => (name, negated),
    };
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ')) || name.is_empty() {
        return None;
    }
    let class = table(&format!("\\p{{gc={name}}}")).or_else(|| table(&format!("\\p{{sc={name}}}")))?;
    Some(finish(class, negated, fold_case))
}

fn table(expression: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(expression).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    }
}

fn of(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)))
}

/// Case is folded before the class is negated.
fn finish(class: ClassUnicode, negated: bool, fold_case: bool) -> ClassUnicode {
    let mut class = if fold_case { folded(class) } else { class };
    if negated {
        class.negate();
    }
    class
}
