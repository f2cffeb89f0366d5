//! Go templates for log lines and alert texts: the crate `gotmpl`, our function tables, and what
//! it leaves to do.
//!
//! Go's engine knows a map of strings whose missing keys are empty, prints floats its own way and
//! has times as values. Here a template is parsed once, its tree is rewritten so that every
//! printed value passes through our own printing, and only the labels it mentions are handed to
//! it.

mod numbers;
mod program;
mod texts;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Parser, PipeNode, SmolStr};
use gotmpl::{FuncMap, Template, Value};

pub use numbers::number_functions;
pub use program::{Method, Program, Vocabulary};
pub use texts::text_functions;
pub use times::{Time, time_functions};

/// Why a template could not be parsed or run; the text is fit for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// What a template about a log line may ask for.
pub trait TemplateInput {
    fn line(&self) -> &str;
    fn t_ns(&self) -> i64;
    fn label(&self, name: &str) -> Option<&str>;
    fn each_label(&self, each: &mut dyn FnMut(&str, &str));
}

const MAIN: &str = "\u{1}main";
const PRINT: &str = "\u{1}print";
const MARK: char = '\u{1}';
/// Where the line and its time lie among the labels, under names no label can have.
const LINE: &str = "\u{1}line";
const TIMESTAMP: &str = "\u{1}timestamp";
/// Iterations of all loops of one run.
const MAX_ITERATIONS: u64 = 100_000;

/// Functions of `line_format` and `label_format`.
static LINE_FUNCTIONS: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut functions = text_functions();
    functions.extend(number_functions());
    functions.extend(time_functions());
    functions.insert(PRINT.to_owned(), Arc::new(|args| Ok(Value::String(texts::print(args).into()))));
    functions
});

/// Functions of the engine itself.
const BUILTIN: [&str; 21] = [
    "and",
    "or",
    "not",
    "len",
    "index",
    "slice",
    "print",
    "println",
    "printf",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "html",
    "js",
    "urlquery",
    "call",
    LINE_FUNCTION,
    TIMESTAMP_FUNCTION,
];
const LINE_FUNCTION: &str = "__line__";
const TIMESTAMP_FUNCTION: &str = "__timestamp__";

enum Piece {
    Text(String),
    Label(String),
    Line,
}

/// A parsed template over a log line and its labels.
pub struct LineTemplate {
    /// Where the template is nothing but texts and plain labels.
    pieces: Option<Vec<Piece>>,
    template: Template,
    fields: Vec<String>,
    /// The labels as a whole are used, not by name.
    whole: bool,
    uses_line: bool,
}

impl std::fmt::Debug for LineTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineTemplate").field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl LineTemplate {
    /// `name` is what messages call the template: `line` or `label`.
    pub fn parse(name: &str, text: &str) -> Result<Self, TemplateError> {
        let error = |e: gotmpl::TemplateError| TemplateError(e.to_string());
        // The engine's parser does not mind blocks that are never closed, or closed too often; a
        // mark behind the text comes out at its end only if all of it was read.
        let marked = format!("{text}{MARK}");
        let parser = Parser::with_name(Some(name), &marked, "{{", "}}").map_err(error)?;
        let (mut main, defines) = parser.parse().map_err(error)?;
        if !take_mark(&mut main) {
            return Err(TemplateError(format!("template: {name}: unexpected {{{{end}}}} or end of text")));
        }
        let pieces = pieces_of(&main);
        let mut rewriter = Rewriter { name, fields: BTreeSet::new(), whole: false, uses_line: false };
        rewriter.list(&mut main)?;
        let mut template = Template::new("")
            .max_range_iters(MAX_ITERATIONS)
            .funcs(LINE_FUNCTIONS.clone())
            .add_parse_tree(MAIN, main);
        for define in defines {
            let mut body = define.body;
            rewriter.list(&mut body)?;
            template = template.add_parse_tree(&define.name, body);
        }
        Ok(Self {
            pieces,
            template,
            fields: rewriter.fields.into_iter().collect(),
            whole: rewriter.whole,
            uses_line: rewriter.uses_line,
        })
    }

    /// The names of labels the template mentions, sorted.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Whether it reads the line.
    pub fn uses_line(&self) -> bool {
        self.uses_line
    }

    /// The label that the template prints and nothing else: `{{.msg}}`.
    pub fn single_field(&self) -> Option<&str> {
        match self.pieces.as_deref() {
            Some([Piece::Label(name)]) => Some(name),
            _ => None,
        }
    }

    /// Appends what the template prints. What was printed before a failure stays in `out`.
    pub fn render(&self, input: &dyn TemplateInput, out: &mut String) -> Result<(), TemplateError> {
        if let Some(pieces) = &self.pieces {
            for piece in pieces {
                out.push_str(match piece {
                    Piece::Text(text) => text,
                    Piece::Label(name) => input.label(name).unwrap_or(""),
                    Piece::Line => input.line(),
                });
            }
            return Ok(());
        }
        let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        let text = |text: &str| Value::String(Arc::from(text));
        if self.whole {
            input.each_label(&mut |name, value| {
                map.insert(Arc::from(name), text(value));
            });
        } else {
            map.insert(Arc::from(TIMESTAMP), Time::from_ns(input.t_ns()).to_value());
            if self.uses_line {
                map.insert(Arc::from(LINE), text(input.line()));
            }
        }
        for name in &self.fields {
            map.entry(Arc::from(name.as_str())).or_insert_with(|| text(input.label(name).unwrap_or("")));
        }
        let labels = Value::Map(Arc::new(map));
        let data = if self.whole { whole_data(labels, input) } else { labels };
        self.template
            .execute_template_fmt(out, MAIN, &data)
            .map_err(|e| TemplateError(format!("template: {e}")))
    }
}

/// Where the map itself is printed or walked, it must hold labels alone: `$` then is the map, and
/// the line and its time are given to the functions by rewriting, which is not possible; so they
/// are added all the same, and a loop over all labels sees two more.
fn whole_data(labels: Value, input: &dyn TemplateInput) -> Value {
    match labels {
        Value::Map(map) => {
            let mut map = (*map).clone();
            map.insert(Arc::from(LINE), Value::String(Arc::from(input.line())));
            map.insert(Arc::from(TIMESTAMP), Time::from_ns(input.t_ns()).to_value());
            Value::Map(Arc::new(map))
        }
        other => other,
    }
}

/// Takes the mark off the end of the outermost list; `false` if it is not there.
fn take_mark(main: &mut ListNode) -> bool {
    let Some(Node::Text(last)) = main.nodes.last_mut() else { return false };
    let Some(text) = last.text.strip_suffix(MARK) else { return false };
    last.text = Arc::from(text);
    if last.text.is_empty() {
        main.nodes.pop();
    }
    true
}

fn pieces_of(main: &ListNode) -> Option<Vec<Piece>> {
    main.nodes
        .iter()
        .map(|node| match node {
            Node::Text(text) => Some(Piece::Text(text.text.to_string())),
            Node::Action(action) if action.pipe.decl.is_empty() => match action.pipe.commands.as_slice() {
                [CommandNode { args, .. }] => match args.as_slice() {
                    [Expr::Field(_, names)] if names.len() == 1 => Some(Piece::Label(names[0].to_string())),
                    [Expr::Identifier(_, name)] if name == LINE_FUNCTION => Some(Piece::Line),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
        .collect()
}

struct Rewriter<'a> {
    name: &'a str,
    fields: BTreeSet<String>,
    whole: bool,
    uses_line: bool,
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
                    let print = Expr::Identifier(action.pos, SmolStr::new(PRINT));
                    action.pipe.commands.push(CommandNode { pos: action.pos, args: vec![print] });
                }
                Ok(())
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => self.branch(branch),
            Node::Template(call) => {
                // What a called template reads of its dot cannot be told here.
                self.whole = true;
                call.pipe.as_mut().map_or(Ok(()), |pipe| self.pipe(pipe))
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn branch(&mut self, branch: &mut BranchNode) -> Result<(), TemplateError> {
        self.pipe(&mut branch.pipe)?;
        self.list(&mut branch.body)?;
        branch.else_body.as_mut().map_or(Ok(()), |body| self.list(body))
    }

    fn pipe(&mut self, pipe: &mut PipeNode) -> Result<(), TemplateError> {
        for command in &mut pipe.commands {
            for arg in &mut command.args {
                self.expr(arg)?;
            }
        }
        Ok(())
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<(), TemplateError> {
        match expr {
            Expr::Dot(_) => self.whole = true,
            Expr::Field(_, names) => self.fields.extend(names.first().map(|n| n.to_string())),
            Expr::Variable(_, name, names) if name == "$" => match names.first() {
                Some(first) => {
                    self.fields.insert(first.to_string());
                }
                None => self.whole = true,
            },
            Expr::Identifier(pos, name) => {
                if name == LINE_FUNCTION || name == TIMESTAMP_FUNCTION {
                    let line = name == LINE_FUNCTION;
                    self.uses_line |= line;
                    let field = SmolStr::new(if line { LINE } else { TIMESTAMP });
                    *expr = Expr::Variable(*pos, SmolStr::new("$"), vec![field]);
                } else if !BUILTIN.contains(&name.as_str()) && !LINE_FUNCTIONS.contains_key(name.as_str()) {
                    return Err(TemplateError(format!(
                        "template: {}:{}: function {:?} not defined",
                        self.name,
                        pos.line,
                        name.as_str()
                    )));
                }
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe)?,
            Expr::Chain(_, inner, _) => self.expr(inner)?,
            _ => {}
        }
        Ok(())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    struct Input;

    impl TemplateInput for Input {
        fn line(&self) -> &str {
            "a=b GET"
        }
        fn t_ns(&self) -> i64 {
            1_679_577_215_000_000_000
        }
        fn label(&self, name: &str) -> Option<&str> {
            match name {
                "msg" => Some("Item added"),
                "path" => Some("/orders/18"),
                "status" => Some("404"),
                "size" => Some("1.5MB"),
                "took" => Some("12ms"),
                _ => None,
            }
        }
        fn each_label(&self, each: &mut dyn FnMut(&str, &str)) {
            each("msg", "Item added");
        }
    }

    #[test]
    fn templates_print_as_go_does() {
        for (template, expected) in [
            ("{{.msg}}", "Item added"),
            ("x {{.nosuch}}|{{upper .nosuch}}|", "x ||"),
            (r#"{{regexReplaceAll "(/)([a-z]+)" .path "${2}"}}"#, "orders/18"),
            (r#"{{regexReplaceAllLiteral "(/)([a-z]+)" .path "${2}"}}"#, "${2}/18"),
            (r#"{{count "d" .msg}}"#, "3"),
            ("{{urlencode .msg}} {{.path | urlencode}}", "Item+added %2Forders%2F18"),
            (r#"{{urldecode "a%20b+c%2Fd"}}"#, "a b c/d"),
            ("{{.size | bytes}} {{duration .took}}", "1.5e+06 0.012"),
            (r#"{{ date "2006-01-02 15:04" (unixToTime "1679577215") }}"#, "2023-03-23 13:13"),
            (r#"{{ unixToTime "1679577215" }}"#, "2023-03-23 13:13:35 +0000 UTC"),
            (r#"{{ unixToTime "1679577215123" | unixEpochMillis }}"#, "1679577215123"),
            (r#"{{ toDate "2006-01-02" "2021-11-02" | unixEpoch }}"#, "1635811200"),
            ("{{lower .msg}} {{upper .msg}} {{title \"ab cd\"}}", "item added ITEM ADDED Ab Cd"),
            ("{{trunc 4 .msg}}|{{trunc -4 .msg}}|{{trunc 99 .msg}}", "Item|dded|Item added"),
            ("{{nindent 2 .msg}}", "\n  Item added"),
            (r#"{{int "12"}} {{float64 "1.5"}} {{int "x"}} {{int 3.9}}"#, "12 1.5 0 3"),
            ("{{add .status 1}} {{mul .status 2}}", "405 808"),
            (r#"{{printf "%.2f %e %x" 3.14159 12345.678 255}}"#, "3.14 1.234568e+04 ff"),
            (r#"{{print .status " " .msg}} {{println "x"}}"#, "404 Item added x\n"),
            (r#"{{if eq .status "404"}}nf{{else}}other{{end}} {{lt 1 2}} {{ge 2 2}}"#, "nf true true"),
            (r#"{{len .msg}} {{index (fromJson "[5,6,7]") 1}} {{slice .msg 1 3}}"#, "10 6 te"),
            (r#"{{ .path | replace "/" " " | trim | title | printf "%q" }}"#, "\"Orders 18\""),
            ("{{ __line__ | lower | trunc 4 }}", "a=b "),
            ("{{ mod (__timestamp__ | unixEpoch | int) 3600 }}", "815"),
            (r#"{{range $i, $e := fromJson "[1,2]"}}{{$i}}:{{$e}} {{end}}"#, "0:1 1:2 "),
            (r#"{{ "<b>&" }}"#, "<b>&"),
            (
                "{{ add 9007199254740993 1 }} {{ mulf 1e10 1e10 }} {{ divf 1 3 }}",
                "9007199254740994 1e+20 0.3333333333333333",
            ),
            (r#"{{ eq .nosuch "" }}"#, "true"),
            (r#"{{divf .status 3 | printf "%.3f"}}"#, "134.667"),
            ("{{addf 0.1 0.2}} {{round 3.14159 2}} {{ceil 1.2}} {{floor \"1.9\"}}", "0.3 3.14 2 1"),
            (r#"{{alignLeft 5 "abc"}}|{{alignRight 5 "abc"}}|{{alignRight 2 "abc"}}"#, "abc  |  abc|bc"),
            (r#"{{b64enc "hi"}} {{b64dec "aGk"}}"#, "aGk= hi"),
            (r#"{{default "d" .nosuch}} {{max 1 "7" 3}} {{maxf 1.5 2}}"#, "d 7 2"),
            (r#"{{substr 1 3 "hello"}} {{repeat 3 "ab"}} {{trimAll "$" "$x$"}}"#, "el ababab x"),
            ("{{- with .msg -}} {{ . }} {{- end -}}", "Item added"),
        ] {
            let parsed = LineTemplate::parse("line", template).unwrap_or_else(|e| panic!("{template}: {e}"));
            let mut out = String::new();
            let result = parsed.render(&Input, &mut out);
            assert_eq!(result.map(|()| out.as_str()), Ok(expected), "{template}");
        }
        for failing in [
            "{{.msg | bytes}}",
            r#"{{.msg | trunc "x"}}"#,
            "{{mod 1 0}}",
            "{{div 1 0}}",
            r#"{{ unixToTime "123" }}"#,
            "{{.msg | duration}}",
        ] {
            let parsed = LineTemplate::parse("line", failing).unwrap_or_else(|e| panic!("{failing}: {e}"));
            assert!(parsed.render(&Input, &mut String::new()).is_err(), "{failing}");
        }
        for bad in ["{{.x", "{{nofunc .x}}", "{{if .x}}", "{{end}}", "a{{if .x}}b{{end}}{{end}}c"] {
            assert!(LineTemplate::parse("line", bad).is_err(), "{bad}");
        }
    }
}
