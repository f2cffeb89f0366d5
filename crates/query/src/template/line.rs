//! Templates about log lines: `line_format`, `label_format`.
//!
//! Only the labels that a template mentions are handed to it, and one that is nothing but texts
//! and plain labels does not meet the engine at all.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use gotmpl::parse::{CommandNode, Expr, ListNode, Node};
use gotmpl::{FuncMap, Template, Value};
use pilothouse_model::limits::TEMPLATE_ITERATIONS;

use super::bounded::{Printed, begin_run, bounded};
use super::numbers::number_functions;
use super::printf::printf;
use super::rewrite::{FIELD, Words, fields, index, parse_tree, rewrite};
use super::texts::{self, text_functions};
use super::times::{Time, time_functions};
use super::zoned::time_method;
use super::{BUILTIN, MAIN, PRINT, TemplateError};

const LINE: &str = "__line__";
const TIMESTAMP: &str = "__timestamp__";

/// What a template about a log line may ask for.
pub trait TemplateInput {
    fn line(&self) -> &str;
    fn t_ns(&self) -> i64;
    fn label(&self, name: &str) -> Option<&str>;
    fn each_label(&self, each: &mut dyn FnMut(&str, &str));
}

thread_local! {
    // The engine's functions see their arguments alone. The line and its time lie here while a
    // text is made.
    static HERE: RefCell<(Value, Value)> = const { RefCell::new((Value::Nil, Value::Nil)) };
}

static FUNCTIONS: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut functions = text_functions();
    functions.extend(number_functions());
    functions.extend(time_functions());
    functions.insert(PRINT.to_owned(), Arc::new(|args| Ok(Value::String(texts::print(args).into()))));
    functions.insert(FIELD.to_owned(), Arc::new(|args| fields(time_method, args)));
    functions.insert("printf".to_owned(), Arc::new(printf));
    functions.insert("index".to_owned(), Arc::new(index));
    functions.insert(LINE.to_owned(), Arc::new(|_| Ok(HERE.with_borrow(|(line, _)| line.clone()))));
    functions.insert(TIMESTAMP.to_owned(), Arc::new(|_| Ok(HERE.with_borrow(|(_, time)| time.clone()))));
    bounded(functions)
});

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
    uses_time: bool,
}

impl std::fmt::Debug for LineTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineTemplate").field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl LineTemplate {
    /// `name` is what messages call the template: `line` or `label`.
    pub fn parse(name: &str, text: &str) -> Result<Self, TemplateError> {
        let (mut main, defines) = parse_tree(name, text)?;
        let pieces = pieces_of(&main);
        let mut used = Used::default();
        rewrite(name, &mut main, &mut used)?;
        let mut template = Template::new("")
            .max_range_iters(TEMPLATE_ITERATIONS)
            .funcs(FUNCTIONS.clone())
            .add_parse_tree(MAIN, main);
        for define in defines {
            let mut body = define.body;
            rewrite(name, &mut body, &mut used)?;
            template = template.add_parse_tree(&define.name, body);
        }
        let Used { fields, whole, uses_line, uses_time } = used;
        Ok(Self { pieces, template, fields: fields.into_iter().collect(), whole, uses_line, uses_time })
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
        begin_run();
        let text = |text: &str| Value::String(Arc::from(text));
        let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        if self.whole {
            input.each_label(&mut |name, value| {
                map.insert(Arc::from(name), text(value));
            });
        } else {
            for name in &self.fields {
                map.insert(Arc::from(name.as_str()), text(input.label(name).unwrap_or("")));
            }
        }
        let line = if self.uses_line { text(input.line()) } else { Value::Nil };
        let time = if self.uses_time { Time::from_ns(input.t_ns()).to_value() } else { Value::Nil };
        HERE.set((line, time));
        self.template
            .execute_template_fmt(&mut Printed::into(out), MAIN, &Value::Map(Arc::new(map)))
            .map_err(|e| TemplateError(format!("template: {e}")))
    }
}

fn pieces_of(main: &ListNode) -> Option<Vec<Piece>> {
    main.nodes
        .iter()
        .map(|node| match node {
            Node::Text(text) => Some(Piece::Text(text.text.to_string())),
            Node::Action(action) if action.pipe.decl.is_empty() => match action.pipe.commands.as_slice() {
                [CommandNode { args, .. }] => match args.as_slice() {
                    [Expr::Field(_, names)] if names.len() == 1 => Some(Piece::Label(names[0].to_string())),
                    [Expr::Identifier(_, name)] if name == LINE => Some(Piece::Line),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// What a template mentions.
#[derive(Default)]
struct Used {
    fields: BTreeSet<String>,
    whole: bool,
    uses_line: bool,
    uses_time: bool,
}

impl Words for Used {
    fn function(&mut self, name: &str) -> bool {
        self.uses_line |= name == LINE;
        self.uses_time |= name == TIMESTAMP;
        FUNCTIONS.contains_key(name) || BUILTIN.contains(&name)
    }

    fn field(&mut self, name: &str) -> bool {
        self.fields.insert(name.to_owned());
        true
    }

    fn whole(&mut self) {
        self.whole = true;
    }
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
            (
                "{{.}} {{len .}} {{range $k, $v := .}}{{$k}}={{$v}}{{end}}",
                "map[msg:Item added] 1 msg=Item added",
            ),
            (r#"[{{index . "nope"}}] {{index "ab" 1}}"#, "[] 98"),
            ("{{$}}{{__line__}}", "map[msg:Item added]a=b GET"),
            (r#"{{int "5.9"}} {{int "010"}} {{add "0777" "1_0"}} {{add}} {{float64 "1_0"}}"#, "5 8 521 0 10"),
            (r#"{{trunc 3 "\u65e5\u672c"}}{{trunc 5 "\u65e5\u672c"}}"#, "\u{65e5}\u{65e5}\u{fffd}\u{fffd}"),
            ("{{divf 2 3}} {{divf 1 3 7}} {{divf 10 4}}", "0.6666666666666667 0.0476190476190476 2.5"),
            (r#"{{printf "%v %T" 1e6 .msg}} {{println 1e6 "a"}}"#, "1e+06 string 1e+06 a\n"),
            (
                r#"{{ toDate "2006-01-02T15:04:05Z07:00" "2023-03-23T10:11:12+02:00" }}"#,
                "2023-03-23 10:11:12 +0200 +0200",
            ),
            (
                r#"{{ toDateInZone "2006-01-02 15:04" "Europe/Berlin" "2023-07-23 10:00" }}"#,
                "2023-07-23 10:00:00 +0200 CEST",
            ),
            (r#"{{ __timestamp__.Format "15:04:05" }} {{ __timestamp__.Year }}"#, "13:13:35 2023"),
            (r#"{{ (unixToTime "1679577215").Month }} {{ (unixToTime "1679577215").YearDay }}"#, "March 82"),
            (r#"{{ (unixToTime "1679577215").AddDate 0 1 0 }}"#, "2023-04-23 13:13:35 +0000 UTC"),
            (r#"{{ (unixToTime "1679577215").Sub (unixToTime "1679577210") }}"#, "5s"),
            (r#"{{ date ".000 ,999" (unixToTime "1679577215") }}"#, ".000 "),
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
        for bad in [
            "{{.x",
            "{{nofunc .x}}",
            "{{if .x}}",
            "{{end}}",
            "a{{if .x}}b{{end}}{{end}}c",
            "{{break}}",
            "{{$undef}}",
            "{{\"a\" | \"b\"}}",
        ] {
            assert!(LineTemplate::parse("line", bad).is_err(), "{bad}");
        }
    }
}
