//! Bounds on what templates make: what they print, and each text on the way to it. A few
//! functions that double a text, one behind the other, or one that repeats it for every letter of
//! another, would else take all memory there is.

use std::fmt;
use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};
use pilothouse_model::limits::LOG_LINE_BYTES;

/// As long as the longest line may be.
pub(super) const LONGEST: usize = LOG_LINE_BYTES as usize;

pub(super) fn too_long() -> TemplateError {
    TemplateError::Exec(format!("a text of the template is longer than {LONGEST} bytes"))
}

/// Fails where a text would be longer than any may be.
pub(super) fn check(bytes: usize) -> Result<(), TemplateError> {
    if bytes > LONGEST { Err(too_long()) } else { Ok(()) }
}

fn text_bytes(value: &Value) -> usize {
    if let Value::String(text) = value { text.len() } else { 0 }
}

/// The same functions, refusing arguments that are too long together and texts that came out too
/// long.
pub(super) fn bounded(functions: FuncMap) -> FuncMap {
    functions.into_iter().map(|(name, function)| (name, guarded(function))).collect()
}

fn guarded(function: ValueFunc) -> ValueFunc {
    Arc::new(move |args| {
        check(args.iter().map(text_bytes).fold(0, usize::saturating_add))?;
        let value = function(args)?;
        check(text_bytes(&value))?;
        Ok(value)
    })
}

/// What a template prints; an error once it is too long.
pub(super) struct Printed<'a> {
    out: &'a mut String,
    left_bytes: usize,
}

impl<'a> Printed<'a> {
    pub(super) fn into(out: &'a mut String) -> Self {
        Self { out, left_bytes: LONGEST }
    }
}

impl fmt::Write for Printed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left_bytes = self.left_bytes.checked_sub(text.len()).ok_or(fmt::Error)?;
        self.out.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LineTemplate, TemplateInput};

    struct Line(&'static str);

    impl TemplateInput for Line {
        fn line(&self) -> &str {
            self.0
        }
        fn t_ns(&self) -> i64 {
            0
        }
        fn label(&self, _: &str) -> Option<&str> {
            None
        }
        fn each_label(&self, _: &mut dyn FnMut(&str, &str)) {}
    }

    /// Each of them would make gigabytes.
    #[test]
    fn no_template_makes_a_text_without_end() {
        let doubled = r#"{{$x = printf "%s%s" $x $x}}"#.repeat(20);
        let many = "$x ".repeat(5_000);
        let references = "$1".repeat(5_000);
        for rest in [
            doubled.as_str(),
            &format!("{{{{$y := print {many}}}}}"),
            &format!(r#"{{{{$y := printf "{}" $x}}}}"#, "%[1]s".repeat(5_000)),
            r#"{{$y := replace "a" $x $x}}"#,
            r#"{{$y := Replace $x "a" $x -1}}"#,
            r#"{{$y := regexReplaceAll "a" $x $x}}"#,
            &format!(r#"{{{{$y := regexReplaceAll "(.*)" $x "{references}"}}}}"#),
            r#"{{range fromJson __line__}}{{$x}}{{end}}"#,
            r#"{{define "t"}}{{.}}{{.}}{{end}}{{range fromJson __line__}}{{template "t" $x}}{{end}}"#,
        ] {
            let text = format!(r#"{{{{$x := repeat 1000000 "a"}}}}{rest}"#);
            let template = LineTemplate::parse("line", &text).unwrap();
            let mut out = String::new();
            let rendered =
                template.render(&Line("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]"), &mut out);
            assert!(rendered.is_err() && out.len() <= super::LONGEST, "{rest:.80}");
        }
    }
}
