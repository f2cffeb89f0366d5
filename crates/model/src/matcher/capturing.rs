//! Expressions that are asked for what their groups captured, and that count and replace.

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

use super::pattern::{Anchoring, build, read};
use super::re2::Groups;
use super::syntax_error::{SyntaxError, SyntaxErrorKind};
use crate::labels::MAX_LENGTH;
use crate::limits::{LOG_LINE_BYTES, REGEX_GROUPS};

const LONGEST_REPLACED: usize = LOG_LINE_BYTES as usize;

/// An expression in RE2 syntax, with what its groups captured; what is only asked whether it
/// matches is a [`Pattern`](super::Pattern).
#[derive(Debug, Clone)]
pub struct CapturingPattern {
    regex: Regex,
    names: Vec<Option<String>>,
}

impl CapturingPattern {
    pub fn new(text: &str, anchoring: Anchoring) -> Result<Self, SyntaxError> {
        let expression = read(text, anchoring, Groups::Capture)?;
        // What every group captured is copied for every state and character: thousands of them make one
        // line a matter of minutes, in which nothing can end the search.
        if expression.names.len() > REGEX_GROUPS + 1 {
            return Err(SyntaxError::new(SyntaxErrorKind::TooLarge, text));
        }
        Ok(Self { regex: build(expression.hir, anchoring, text)?, names: expression.names })
    }

    /// The name of each group, the whole match as number 0 included; names may repeat.
    pub fn names(&self) -> &[Option<String>] {
        &self.names
    }

    #[inline]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// How many matches there are, none overlapping another.
    pub fn count(&self, text: &str) -> usize {
        self.regex.find_iter(text).count()
    }

    /// What each group captured of the first match, the whole match as number 0 included;
    /// `None` if the expression does not match.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Vec<Option<&'t str>>> {
        let mut parts = Vec::with_capacity(self.names.len());
        self.capture(text, &mut parts).then_some(parts)
    }

    /// The same into a list that is used again; `false`, and the list empty, if the expression
    /// does not match.
    pub fn capture<'t>(&self, text: &'t str, parts: &mut Vec<Option<&'t str>>) -> bool {
        parts.clear();
        let mut found = self.regex.create_captures();
        self.regex.captures(text, &mut found);
        if found.is_match() {
            self.take(text, &found, parts);
        }
        found.is_match()
    }

    fn take<'t>(&self, text: &'t str, found: &Captures, parts: &mut Vec<Option<&'t str>>) {
        let part = |i| found.get_group(i).and_then(|span| text.get(span.start..span.end));
        parts.clear();
        parts.extend((0..self.names.len()).map(part));
    }

    /// `template` with `$1`, `${1}`, `$name` and `${name}` replaced by what the groups captured
    /// of `text`, as Go's `Regexp.Expand`; `None` if the expression does not match. Where it comes to be
    /// longer than any label can be, it ends.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let captures = self.captures(text)?;
        let mut out = String::with_capacity(template.len() + text.len());
        expand_template(template, &self.names, &captures, MAX_LENGTH, &mut out);
        Some(out)
    }

    /// Replaces every match by `new`; variables in it stand for captures as in
    /// [`expand`](Self::expand), unless it is `literal`. Ends once the text is longer than the longest
    /// line of a log, which is longer than whoever asks for it takes.
    pub fn replace_all(&self, text: &str, new: &str, literal: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let (mut last, mut captures) = (0, Vec::new());
        for found in self.regex.captures_iter(text) {
            if out.len() > LONGEST_REPLACED {
                return out;
            }
            let Some(whole) = found.get_match() else { continue };
            out.push_str(text.get(last..whole.start()).unwrap_or(""));
            if literal {
                out.push_str(new);
            } else {
                self.take(text, &found, &mut captures);
                expand_template(new, &self.names, &captures, LONGEST_REPLACED, &mut out);
            }
            last = whole.end();
        }
        out.push_str(text.get(last..).unwrap_or(""));
        out
    }
}

/// Appends `template` with its variables replaced by captures. `names` and `captures` count the
/// whole match as number 0. Ends once there is more than `longest`.
fn expand_template(
    template: &str,
    names: &[Option<String>],
    captures: &[Option<&str>],
    longest: usize,
    out: &mut String,
) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        if out.len() > longest {
            return;
        }
        out.push_str(before);
        rest = if let Some(behind) = after.strip_prefix('$') {
            out.push('$');
            behind
        } else if let Some((name, length)) = variable(after) {
            out.push_str(value_of(name, names, captures));
            after.get(length..).unwrap_or("")
        } else {
            out.push('$');
            after
        };
    }
    out.push_str(rest);
}

/// What a group captured, by number or by name; of several with one name the first that
/// captured anything.
fn value_of<'t>(name: &str, names: &[Option<String>], captures: &[Option<&'t str>]) -> &'t str {
    let numeric = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if numeric {
        return name.parse().ok().and_then(|i: usize| *captures.get(i)?).unwrap_or("");
    }
    let of_name = names.iter().zip(captures).filter(|(n, _)| n.as_deref() == Some(name));
    of_name.into_iter().find_map(|(_, captured)| *captured).unwrap_or("")
}

/// The variable at the begin of a text, and how many bytes it takes.
fn variable(text: &str) -> Option<(&str, usize)> {
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, behind) = inner.split_at_checked(end)?;
    let closed = !braced || behind.starts_with('}');
    (end > 0 && closed).then_some((name, end + 2 * usize::from(braced)))
}
