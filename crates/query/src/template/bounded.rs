//! Bounds on what templates make: what they print, and each text on the way to it. A few
//! functions that double a text, one behind the other, or one that repeats it for every letter of
//! another, would else take all memory there is.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};
use pilothouse_model::limits::LOG_LINE_BYTES;

use super::{display, need_args};

/// As long as the longest line may be.
pub(super) const LONGEST: usize = LOG_LINE_BYTES as usize;

/// All texts that functions give in one run: variables may hold every one of them.
const RUN_BYTES: usize = 8 * LONGEST;

thread_local! {
    // A run stays on its thread, and its functions see their arguments alone.
    static GIVEN_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// A run begins, of whose functions nothing has been given yet.
pub fn begin_run() {
    GIVEN_BYTES.set(0);
}

/// Counts what a function gives.
pub(super) fn give(bytes: usize) -> Result<(), TemplateError> {
    let given = GIVEN_BYTES.get().saturating_add(bytes);
    GIVEN_BYTES.set(given);
    if given <= RUN_BYTES {
        return Ok(());
    }
    Err(TemplateError::Exec(format!("the texts of the template are longer than {RUN_BYTES} bytes together")))
}

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

/// The engine's own functions that make texts longer.
fn escapes() -> [(&'static str, ValueFunc); 3] {
    let of = |escape: fn(&str) -> String| -> ValueFunc {
        Arc::new(move |args| {
            need_args(args, 1)?;
            Ok(Value::String(match args.first() {
                Some(Value::String(text)) => escape(text).into(),
                None | Some(Value::Nil) => escape("<no value>").into(),
                Some(other) => escape(&display(other)).into(),
            }))
        })
    };
    [("html", of(gotmpl::html_escape)), ("js", of(gotmpl::js_escape)), ("urlquery", of(gotmpl::url_encode))]
}

/// The same functions and the engine's that escape, refusing arguments that are too long together, texts
/// that came out too long, and too many of them in one run; see [`begin_run`].
pub fn bounded(mut functions: FuncMap) -> FuncMap {
    for (name, function) in escapes() {
        functions.entry(name.to_owned()).or_insert(function);
    }
    functions.into_iter().map(|(name, function)| (name, guarded(function))).collect()
}

fn guarded(function: ValueFunc) -> ValueFunc {
    Arc::new(move |args| {
        check(args.iter().map(text_bytes).fold(0, usize::saturating_add))?;
        let value = function(args)?;
        let bytes = text_bytes(&value);
        check(bytes)?;
        give(bytes)?;
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
            r#"{{$y := replace "a" "<" $x}}{{$y = html (html (html $y))}}"#,
            &(0..70).map(|n| format!("{{{{$y{n} := printf \"%s{n}\" $x}}}}")).collect::<String>(),
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
