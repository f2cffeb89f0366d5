//! Expressions in RE2 syntax over lines: asked for any part of a text, `.` without line feeds,
//! with captures and replacement. What the matchers of labels use instead is
//! `model::matcher::Pattern`.

use pilothouse_model::matcher::RegexError;
use pilothouse_model::matcher::pattern::{self, expand_template};
use pilothouse_model::matcher::re2::{self, Groups};
use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use regex_syntax::hir::{Hir, Look};

#[derive(Debug, Clone)]
pub struct LineRegex {
    regex: Regex,
    names: Vec<Option<String>>,
}

impl LineRegex {
    pub fn new(text: &str) -> Result<Self, RegexError> {
        Self::build(text, |hir| hir)
    }

    /// Matches only texts as a whole.
    pub fn whole(text: &str) -> Result<Self, RegexError> {
        Self::build(text, |hir| Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]))
    }

    fn build(text: &str, around: impl FnOnce(Hir) -> Hir) -> Result<Self, RegexError> {
        let expression = re2::parse_line(text, Groups::Capture)?;
        let regex = pattern::build(&around(expression.hir), text)?;
        Ok(Self { regex, names: expression.names })
    }

    #[inline]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The name of each group, the whole match as number 0 included.
    pub fn names(&self) -> &[Option<String>] {
        &self.names
    }

    /// Hands over what the groups captured of the first match, in order; nothing if there is
    /// none. A group that took no part is `None`.
    pub fn capture<'t>(&self, text: &'t str, captures: &mut Vec<Option<&'t str>>) -> bool {
        captures.clear();
        let mut found = self.regex.create_captures();
        self.regex.captures(text, &mut found);
        if found.is_match() {
            self.parts(text, &found, captures);
        }
        found.is_match()
    }

    fn parts<'t>(&self, text: &'t str, found: &Captures, captures: &mut Vec<Option<&'t str>>) {
        captures.clear();
        captures.extend(
            (0..self.names.len()).map(|i| found.get_group(i).and_then(|span| text.get(span.start..span.end))),
        );
    }

    /// How many matches there are, none overlapping another.
    pub fn count(&self, text: &str) -> usize {
        self.regex.find_iter(text).count()
    }

    /// Replaces every match by `new`; variables in it (`$1`, `${name}`) stand for captures unless
    /// it is `literal`.
    pub fn replace_all(&self, text: &str, new: &str, literal: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let (mut last, mut captures) = (0, Vec::new());
        for found in self.regex.captures_iter(Input::new(text)) {
            let Some(whole) = found.get_match() else { continue };
            out.push_str(text.get(last..whole.start()).unwrap_or(""));
            if literal {
                out.push_str(new);
            } else {
                self.parts(text, &found, &mut captures);
                expand_template(new, &self.names, &captures, &mut out);
            }
            last = whole.end();
        }
        out.push_str(text.get(last..).unwrap_or(""));
        out
    }

    /// `template` with captures of the first match; `None` if there is none.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let mut captures = Vec::new();
        if !self.capture(text, &mut captures) {
            return None;
        }
        let mut out = String::new();
        expand_template(template, &self.names, &captures, &mut out);
        Some(out)
    }
}
