//! Go templates for log lines and alert texts: the crate `gotmpl`, our function tables, and what
//! it leaves to do.
//!
//! Go's engine knows a map of strings whose missing keys are empty, prints floats its own way and
//! has times as values. Here a template is parsed once, its tree is rewritten so that every
//! printed value passes through our own printing, and only the labels it mentions are handed to
//! it.

mod bounded;
mod layout;
mod line;
mod numbers;
mod printf;
mod program;
mod rewrite;
mod texts;
mod times;
mod zoned;

use gotmpl::Value;

pub use bounded::{begin_run, bounded};
pub use line::{LineTemplate, TemplateInput};
pub use printf::sprintf;
pub use program::{Program, Vocabulary};
pub use rewrite::Method;
pub use times::Time;
pub use zoned::{Zoned, time_method};

/// Why a template could not be parsed or run; the text is fit for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

const MAIN: &str = "\u{1}main";
const PRINT: &str = "\u{1}print";

/// Functions of the engine itself.
const BUILTIN: [&str; 19] = [
    "and", "or", "not", "len", "index", "slice", "print", "println", "printf", "eq", "ne", "lt", "le", "gt",
    "ge", "html", "js", "urlquery", "call",
];

/// A value as Go's `%v` prints it, and a time by its own text.
pub fn display(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        other => texts::plain(other),
    }
}

/// One argument as a text; anything else is an error in Go, too.
fn text_arg(args: &[Value], i: usize) -> Result<&str, gotmpl::TemplateError> {
    match args.get(i) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type("string", other)),
        None => Err(gotmpl::TemplateError::Exec("wrong number of args".to_owned())),
    }
}

/// One argument as an integer, which a text is not.
fn int_arg(args: &[Value], i: usize) -> Result<i64, gotmpl::TemplateError> {
    match args.get(i) {
        Some(Value::Int(n)) => Ok(*n),
        Some(other) => Err(wrong_type("int", other)),
        None => Err(gotmpl::TemplateError::Exec("wrong number of args".to_owned())),
    }
}

fn wrong_type(expected: &str, got: &Value) -> gotmpl::TemplateError {
    gotmpl::TemplateError::Exec(format!("wrong type for value; expected {expected}; got {}", got.type_name()))
}

fn need_args(args: &[Value], n: usize) -> Result<(), gotmpl::TemplateError> {
    if args.len() == n {
        return Ok(());
    }
    Err(gotmpl::TemplateError::Exec(format!("wrong number of args: want {n} got {}", args.len())))
}
