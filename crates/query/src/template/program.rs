//! Templates of alerts and notifications: any data, any functions, and methods.
//!
//! The engine knows no methods, gives nothing where Go gives a type's zero value, and looks for
//! variables only when it runs. So the tree is rewritten once: each access to a field becomes a
//! call of one function that knows all three, and each printed value passes through our printing.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, Parser, PipeNode, Pos, SmolStr};
use gotmpl::{FuncMap, Template, Value};

use super::{BUILTIN, MAIN, MARK, MAX_ITERATIONS, PRINT, TemplateError, take_mark, texts};

const FIELD: &str = "\u{1}field";

type Answer = Result<Value, gotmpl::TemplateError>;

/// What a value's method of a name gives, called with arguments; `None` where the value has none
/// of that name, and the name is that of a field.
pub type Method = fn(value: &Value, name: &str, args: &[Value]) -> Option<Answer>;

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
        let base = Template::new("").max_range_iters(MAX_ITERATIONS).funcs(functions);
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
        match self.template.execute_template_fmt(&mut out, MAIN, data) {
            Ok(()) => Ok(out),
            Err(e) => Err(TemplateError(e.to_string())),
        }
    }
}

type Tree = (ListNode, Vec<gotmpl::parse::DefineNode>);

fn parse_tree(name: &str, text: &str) -> Result<Tree, TemplateError> {
    let error = |e: gotmpl::TemplateError| TemplateError(without_column(e));
    let marked = format!("{text}{MARK}");
    let parser = Parser::with_name(Some(name), &marked, "{{", "}}").map_err(error)?;
    let (mut main, defines) = parser.parse().map_err(error)?;
    if !take_mark(&mut main) {
        let line = 1 + text.matches('\n').count();
        return Err(TemplateError(format!("template: {name}:{line}: unexpected EOF")));
    }
    Ok((main, defines))
}

/// Go names only the line where a text cannot be parsed.
fn without_column(error: gotmpl::TemplateError) -> String {
    match error {
        gotmpl::TemplateError::Parse { name, line, message, .. }
        | gotmpl::TemplateError::Lex { name, line, message, .. } => {
            format!("template: {}:{line}: {message}", name.unwrap_or_default())
        }
        other => other.to_string(),
    }
}

fn add(
    mut template: Template,
    name: &str,
    main_name: &str,
    mut main: ListNode,
    defines: Vec<gotmpl::parse::DefineNode>,
    vocabulary: &Vocabulary,
    calls: &mut BTreeSet<String>,
) -> Result<Template, TemplateError> {
    let mut rewriter = Rewriter { name, vocabulary, calls, variables: vec!["$".to_owned()] };
    rewriter.list(&mut main)?;
    for define in defines {
        let mut body = define.body;
        rewriter.variables = vec!["$".to_owned()];
        rewriter.list(&mut body)?;
        template = template.add_parse_tree(&define.name, body);
    }
    Ok(template.add_parse_tree(main_name, main))
}

struct Rewriter<'a> {
    name: &'a str,
    vocabulary: &'a Vocabulary,
    calls: &'a mut BTreeSet<String>,
    /// Those in scope, innermost last.
    variables: Vec<String>,
}

impl Rewriter<'_> {
    fn list(&mut self, list: &mut ListNode) -> Result<(), TemplateError> {
        list.nodes.iter_mut().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &mut Node) -> Result<(), TemplateError> {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => {
                self.pipe(&mut action.pipe)?;
                if action.pipe.decl.is_empty() {
                    action.pipe.commands.push(call(action.pos, PRINT, Vec::new()));
                }
                Ok(())
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => self.branch(branch),
            Node::Template(template) => template.pipe.as_mut().map_or(Ok(()), |pipe| self.pipe(pipe)),
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn branch(&mut self, branch: &mut BranchNode) -> Result<(), TemplateError> {
        let outside = self.variables.len();
        self.pipe(&mut branch.pipe)?;
        self.list(&mut branch.body)?;
        if let Some(body) = &mut branch.else_body {
            self.list(body)?;
        }
        self.variables.truncate(outside);
        Ok(())
    }

    fn pipe(&mut self, pipe: &mut PipeNode) -> Result<(), TemplateError> {
        self.variables.extend(pipe.decl.iter().map(|name| name.to_string()));
        pipe.commands.iter_mut().try_for_each(|command| self.command(command))
    }

    fn command(&mut self, command: &mut CommandNode) -> Result<(), TemplateError> {
        for arg in &mut command.args {
            self.expr(arg)?;
        }
        // What stands first may be a method that takes the rest, and what is piped, as arguments.
        let Some(Expr::Pipe(_, inner)) = command.args.first() else { return Ok(()) };
        let [CommandNode { args: access, .. }] = inner.commands.as_slice() else { return Ok(()) };
        if matches!(access.first(), Some(Expr::Identifier(_, name)) if name == FIELD) {
            let access = access.clone();
            command.args.splice(0..1, access);
        }
        Ok(())
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<(), TemplateError> {
        match expr {
            Expr::Field(pos, names) => *expr = access(*pos, Expr::Dot(*pos), names),
            Expr::Variable(pos, variable, names) => {
                if !self.variables.iter().any(|known| known == variable.as_str()) {
                    return Err(self.error(pos.line, &format!("undefined variable \"{variable}\"")));
                }
                if !names.is_empty() {
                    *expr = access(*pos, Expr::Variable(*pos, variable.clone(), Vec::new()), names);
                }
            }
            Expr::Identifier(pos, name) => self.function(pos.line, name.as_str())?,
            Expr::Pipe(_, pipe) => self.pipe(pipe)?,
            Expr::Chain(pos, inner, names) => {
                self.expr(inner)?;
                *expr = access(*pos, (**inner).clone(), names);
            }
            _ => {}
        }
        Ok(())
    }

    fn function(&mut self, line: usize, name: &str) -> Result<(), TemplateError> {
        let known = self.vocabulary.functions.contains(name);
        if !known && (!BUILTIN.contains(&name) || name.starts_with("__")) {
            return Err(self.error(line, &format!("function \"{name}\" not defined")));
        }
        self.calls.insert(name.to_owned());
        Ok(())
    }

    fn error(&self, line: usize, what: &str) -> TemplateError {
        TemplateError(format!("template: {}:{line}: {what}", self.name))
    }
}

fn call(pos: Pos, function: &str, args: Vec<Expr>) -> CommandNode {
    let mut all = vec![Expr::Identifier(pos, SmolStr::new(function))];
    all.extend(args);
    CommandNode { pos, args: all }
}

/// `FIELD value 2 "a" "b"` for `value.a.b`.
fn access(pos: Pos, value: Expr, names: &[SmolStr]) -> Expr {
    let mut args = vec![value, Expr::Number(pos, Number::Int(names.len() as i64))];
    args.extend(names.iter().map(|name| Expr::String(pos, Arc::from(name.as_str()))));
    let command = call(pos, FIELD, args);
    Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands: vec![command], is_assign: false })
}

fn fields(method: Method, args: &[Value]) -> Answer {
    let malformed = || gotmpl::TemplateError::Exec("malformed access to a field".to_owned());
    let [value, Value::Int(count), rest @ ..] = args else { return Err(malformed()) };
    let count = usize::try_from(*count).map_err(|_| malformed())?;
    let (names, args) = rest.split_at_checked(count).ok_or_else(malformed)?;
    let mut current = value.clone();
    for (i, name) in names.iter().enumerate() {
        let Value::String(name) = name else { return Err(malformed()) };
        let args = if i + 1 == count { args } else { &[] };
        current = field(method, &current, name, args)?;
    }
    Ok(current)
}

fn field(method: Method, value: &Value, name: &str, args: &[Value]) -> Answer {
    let failed = |why: String| Err(gotmpl::TemplateError::Exec(why));
    if let Some(answer) = method(value, name, args) {
        return answer;
    }
    let found = match value {
        Value::Map(map) => match map.get(name) {
            Some(Value::Function(function)) => return function(args),
            Some(found) => found.clone(),
            None => zero_of(map.values()),
        },
        Value::Nil => return failed(format!("nil pointer evaluating interface {{}}.{name}")),
        other => return failed(format!("can't evaluate field {name} in type {}", other.type_name())),
    };
    if args.is_empty() {
        return Ok(found);
    }
    failed(format!("{name} has arguments but cannot be invoked as function"))
}

/// What a map gives for a key that it does not have: a map of texts an empty one, any other
/// nothing, which prints as `<no value>`.
fn zero_of<'a>(mut values: impl Iterator<Item = &'a Value>) -> Value {
    if values.all(|value| matches!(value, Value::String(_))) {
        return Value::String(Arc::from(""));
    }
    Value::Nil
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
    fn repeat(value: &Value, name: &str, args: &[Value]) -> Option<Answer> {
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
