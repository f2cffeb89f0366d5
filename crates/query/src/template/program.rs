//! Templates of alerts and notifications: any data, any functions, and methods.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use gotmpl::parse::{DefineNode, ListNode};
use gotmpl::{FuncMap, Template, Value};
use pilothouse_model::limits::TEMPLATE_ITERATIONS;

use super::bounded::{Printed, begin_run, bounded};
use super::printf::printf;
use super::rewrite::{FIELD, Method, Words, fields, index, parse_tree, rewrite};
use super::{BUILTIN, MAIN, PRINT, TemplateError, texts};

/// Functions and methods that templates of one kind may use, and what is put in front of each.
pub struct Vocabulary {
    base: Template,
    functions: BTreeSet<String>,
    prelude: &'static str,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("functions", &self.functions).finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// `prelude` stands in front of every template (declarations of variables); it must have no
    /// line break, so that positions in messages stay right.
    pub fn new(mut functions: FuncMap, method: Method, prelude: &'static str) -> Self {
        let names = functions.keys().cloned().collect();
        functions.insert(PRINT.to_owned(), Arc::new(|args| Ok(Value::String(texts::print(args).into()))));
        functions.insert(FIELD.to_owned(), Arc::new(move |args| fields(method, args)));
        functions
            .entry("print".to_owned())
            .or_insert_with(|| Arc::new(|args| Ok(Value::String(texts::print_all(args).into()))));
        functions.insert("printf".to_owned(), Arc::new(printf));
        functions.entry("index".to_owned()).or_insert_with(|| Arc::new(index));
        let base = Template::new("").max_range_iters(TEMPLATE_ITERATIONS).funcs(bounded(functions));
        Self { base, functions: names, prelude }
    }
}

/// A template that was read and checked.
pub struct Program {
    template: Template,
    calls: BTreeSet<String>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Program {
    /// Errors are Go's: `template: NAME:LINE: …`.
    pub fn parse(name: &str, text: &str, vocabulary: &Vocabulary) -> Result<Self, TemplateError> {
        Self::parse_with(name, text, vocabulary, &[])
    }

    /// As [`Program::parse`], with the definitions of other texts at hand: `(name, text)`, later
    /// ones overriding earlier ones.
    pub fn parse_with(
        name: &str,
        text: &str,
        vocabulary: &Vocabulary,
        shared: &[(String, String)],
    ) -> Result<Self, TemplateError> {
        let mut template = vocabulary.base.clone();
        let mut calls = BTreeSet::new();
        for (of, text) in shared {
            let (main, defines) = parse_tree(of, text)?;
            template = add(template, of, of, main, defines, vocabulary, &mut calls)?;
        }
        let (main, defines) = parse_tree(name, &format!("{}{text}", vocabulary.prelude))?;
        template = add(template, name, MAIN, main, defines, vocabulary, &mut calls)?;
        Ok(Self { template, calls })
    }

    /// Whether a function is called anywhere in it.
    pub fn calls(&self, function: &str) -> bool {
        self.calls.contains(function)
    }

    pub fn render(&self, data: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        begin_run();
        match self.template.execute_template_fmt(&mut Printed::into(&mut out), MAIN, data) {
            Ok(()) => Ok(out),
            Err(e) => Err(TemplateError(e.to_string())),
        }
    }
}

fn add(
    mut template: Template,
    name: &str,
    main_name: &str,
    mut main: ListNode,
    defines: Vec<DefineNode>,
    vocabulary: &Vocabulary,
    calls: &mut BTreeSet<String>,
) -> Result<Template, TemplateError> {
    let mut words = Known { vocabulary, calls };
    rewrite(name, &mut main, &mut words)?;
    for define in defines {
        let mut body = define.body;
        rewrite(name, &mut body, &mut words)?;
        template = template.add_parse_tree(&define.name, body);
    }
    Ok(template.add_parse_tree(main_name, main))
}

/// Any field may have methods, so all of them are read by our function.
struct Known<'a> {
    vocabulary: &'a Vocabulary,
    calls: &'a mut BTreeSet<String>,
}

impl Words for Known<'_> {
    fn function(&mut self, name: &str) -> bool {
        self.calls.insert(name.to_owned());
        self.vocabulary.functions.contains(name) || BUILTIN.contains(&name)
    }

    fn field(&mut self, _name: &str) -> bool {
        false
    }

    fn whole(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static WORDS: LazyLock<Vocabulary> = LazyLock::new(|| {
        let mut functions = FuncMap::new();
        functions.insert(
            "upper".to_owned(),
            Arc::new(|args| match args {
                [Value::String(text)] => Ok(Value::String(text.to_uppercase().into())),
                _ => Err(gotmpl::TemplateError::Exec("wrong type".to_owned())),
            }),
        );
        Vocabulary::new(functions, repeat, "{{$labels := .Labels}}")
    });

    /// Texts have one method, which takes a number.
    fn repeat(value: &Value, name: &str, args: &[Value]) -> Option<Result<Value, gotmpl::TemplateError>> {
        match (value, name, args) {
            (Value::String(text), "Twice", []) => Some(Ok(Value::String(text.repeat(2).into()))),
            (Value::String(text), "Repeat", [Value::Int(n)]) => {
                Some(Ok(Value::String(text.repeat(*n as usize).into())))
            }
            _ => None,
        }
    }

    fn data() -> Value {
        let labels = Value::from_entries([("a".to_owned(), Value::String("x".into()))]);
        Value::from_entries([("Labels".to_owned(), labels), ("Value".to_owned(), Value::Float(1.5))])
    }

    #[test]
    fn fields_methods_and_missing_keys() {
        for (text, expected) in [
            ("{{ $labels.a }}{{ .Labels.a }}{{ $.Labels.a }}", "xxx"),
            ("[{{ $labels.nope }}|{{ .Nope }}]", "[|<no value>]"),
            ("{{ if eq $labels.nope \"\" }}none{{ end }}", "none"),
            ("[{{ index $labels \"nope\" }}{{ index $labels \"a\" }}]", "[x]"),
            (
                "{{ .Labels.a.Twice }} {{ (upper $labels.a).Repeat 3 }} {{ 2 | $labels.a.Repeat }}",
                "xx XXX xx",
            ),
            ("{{ printf \"%s-%.1f\" .Labels.a.Twice .Value }} {{ .Value }}", "xx-1.5 1.5"),
            ("{{ with $x := 3 }}{{ $x }}{{ end }}{{ $y := .Labels }}{{ $y.a }}", "3x"),
            ("{{ range $k, $v := .Labels }}{{ $k }}={{ $v }}{{ end }}", "a=x"),
            ("{{ define \"d\" }}<{{ . }}>{{ end }}{{ template \"d\" .Labels.a }}", "<x>"),
        ] {
            let program = Program::parse("t", text, &WORDS).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(program.render(&data()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_as_go_tells_it() {
        for (text, expected) in [
            ("{{ $nope }}", "template: t:1: undefined variable \"$nope\""),
            ("\n{{ nope 1 }}", "template: t:2: function \"nope\" not defined"),
            ("{{ with 1 }}{{ $x := 1 }}{{ end }}{{ $x }}", "template: t:1: undefined variable \"$x\""),
            ("{{ if 1 }}", "template: t:1: unexpected EOF"),
            ("{{ __line__ }}", "template: t:1: function \"__line__\" not defined"),
        ] {
            let error = Program::parse("t", text, &WORDS).map(|_| ()).map_err(|e| e.0);
            assert_eq!(error, Err(expected.to_owned()), "{text}");
        }
        for text in ["{{ $nope", "{{ end }}", "{{ .a | }}"] {
            assert!(Program::parse("t", text, &WORDS).is_err(), "{text}");
        }
        let failing = Program::parse("t", "{{ .Value.x }}", &WORDS).unwrap_or_else(|e| panic!("{e}"));
        assert!(failing.render(&data()).is_err());
    }
}
