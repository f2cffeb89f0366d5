//! The walk over a template's tree before it is ever run.
//!
//! The engine knows no methods, looks for variables only when it runs, and does not mind a
//! `{{break}}` outside of a loop. So the tree is walked once: what Go's parser refuses is refused,
//! each access to a field may become a call of one function that knows methods, and each printed
//! value passes through our printing.

use std::sync::Arc;

use gotmpl::Value;
use gotmpl::parse::{
    BranchNode, CommandNode, DefineNode, Expr, ListNode, Node, Number, Parser, PipeNode, Pos, SmolStr,
};

use super::{PRINT, TemplateError};

/// The function that every other access to a field becomes: `FIELD value count names… args…`.
pub(super) const FIELD: &str = "\u{1}field";

const MARK: char = '\u{1}';

type Answer = Result<Value, gotmpl::TemplateError>;

/// What a value's method of a name gives, called with arguments; `None` where the value has none
/// of that name, and the name is that of a field.
pub type Method = fn(value: &Value, name: &str, args: &[Value]) -> Option<Answer>;

/// What a kind of template knows, and wants to know of what is used.
pub(super) trait Words {
    /// Whether there is such a function.
    fn function(&mut self, name: &str) -> bool;
    /// A field of the data itself is read; `true` if the engine may read the first name on its own.
    fn field(&mut self, name: &str) -> bool;
    /// The data is used as a whole.
    fn whole(&mut self);
}

pub(super) type Tree = (ListNode, Vec<DefineNode>);

/// Reads a text. Errors name the line alone, as Go's do.
pub(super) fn parse_tree(name: &str, text: &str) -> Result<Tree, TemplateError> {
    let error = |e: gotmpl::TemplateError| TemplateError(without_column(e));
    // The engine's parser does not mind blocks that are never closed, or closed too often; a mark
    // behind the text comes out at its end only if all of it was read.
    let marked = format!("{text}{MARK}");
    let parser = Parser::with_name(Some(name), &marked, "{{", "}}").map_err(error)?;
    let (mut main, defines) = parser.parse().map_err(error)?;
    if !take_mark(&mut main) {
        let line = 1 + text.matches('\n').count();
        return Err(TemplateError(format!("template: {name}:{line}: unexpected EOF")));
    }
    Ok((main, defines))
}

fn without_column(error: gotmpl::TemplateError) -> String {
    match error {
        gotmpl::TemplateError::Parse { name, line, message, .. }
        | gotmpl::TemplateError::Lex { name, line, message, .. } => {
            // Our mark, met inside of an action, is the end of the text.
            let what = match message.as_str() {
                met if met.contains(&format!("{MARK:?}")) => "unclosed action",
                "empty command" => "missing value for command",
                other => other,
            };
            format!("template: {}:{line}: {what}", name.unwrap_or_default())
        }
        other => other.to_string(),
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

/// Walks one template.
pub(super) fn rewrite(name: &str, list: &mut ListNode, words: &mut dyn Words) -> Result<(), TemplateError> {
    Rewriter { name, words, variables: vec!["$".to_owned()], loops: 0 }.list(list)
}

struct Rewriter<'a> {
    name: &'a str,
    words: &'a mut dyn Words,
    /// Those in scope, innermost last.
    variables: Vec<String>,
    /// How many loops are open.
    loops: usize,
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
            Node::Range(branch) => self.branch(branch, 1),
            Node::If(branch) | Node::With(branch) => self.branch(branch, 0),
            Node::Template(template) => {
                // What a called template reads of its dot cannot be told here.
                self.words.whole();
                template.pipe.as_mut().map_or(Ok(()), |pipe| self.pipe(pipe))
            }
            Node::Break(pos) if self.loops == 0 => Err(self.error(pos.line, "{{break}} outside {{range}}")),
            Node::Continue(pos) if self.loops == 0 => {
                Err(self.error(pos.line, "{{continue}} outside {{range}}"))
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn branch(&mut self, branch: &mut BranchNode, loops: usize) -> Result<(), TemplateError> {
        let outside = self.variables.len();
        self.pipe(&mut branch.pipe)?;
        self.loops += loops;
        self.list(&mut branch.body)?;
        self.loops -= loops;
        if let Some(body) = &mut branch.else_body {
            self.list(body)?;
        }
        self.variables.truncate(outside);
        Ok(())
    }

    fn pipe(&mut self, pipe: &mut PipeNode) -> Result<(), TemplateError> {
        for (i, command) in pipe.commands.iter_mut().enumerate() {
            let first = command.args.first();
            let idle = matches!(
                first,
                Some(Expr::Bool(..) | Expr::Dot(_) | Expr::Nil(_) | Expr::Number(..) | Expr::String(..))
            );
            if i > 0 && idle {
                let what = format!("non executable command in pipeline stage {}", i + 1);
                return Err(self.error(command.pos.line, &what));
            }
            self.command(command)?;
        }
        self.variables.extend(pipe.decl.iter().map(|name| name.to_string()));
        Ok(())
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
            Expr::Dot(_) => self.words.whole(),
            Expr::Field(pos, names) => {
                if let Some(rewritten) = self.path(*pos, None, names) {
                    *expr = rewritten;
                }
            }
            Expr::Variable(pos, variable, names) => {
                if !self.variables.iter().any(|known| known == variable.as_str()) {
                    return Err(self.error(pos.line, &format!("undefined variable \"{variable}\"")));
                }
                let root = variable == "$";
                if names.is_empty() {
                    if root {
                        self.words.whole();
                    }
                } else if root {
                    if let Some(rewritten) = self.path(*pos, Some(variable.clone()), names) {
                        *expr = rewritten;
                    }
                } else {
                    *expr = access(*pos, Expr::Variable(*pos, variable.clone(), Vec::new()), names);
                }
            }
            Expr::Identifier(pos, name) if !self.words.function(name.as_str()) => {
                return Err(self.error(pos.line, &format!("function \"{name}\" not defined")));
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe)?,
            Expr::Chain(pos, inner, names) => {
                self.expr(inner)?;
                *expr = access(*pos, (**inner).clone(), names);
            }
            _ => {}
        }
        Ok(())
    }

    /// A path from the data, or from the variable that holds it; `None` where it may stay.
    fn path(&mut self, pos: Pos, variable: Option<SmolStr>, names: &[SmolStr]) -> Option<Expr> {
        let (first, rest) = names.split_first()?;
        let step = |names: Vec<SmolStr>| match (&variable, names.is_empty()) {
            (Some(variable), _) => Expr::Variable(pos, variable.clone(), names),
            (None, true) => Expr::Dot(pos),
            (None, false) => Expr::Field(pos, names),
        };
        match (self.words.field(first.as_str()), rest.is_empty()) {
            (true, true) => None,
            (true, false) => Some(access(pos, step(vec![first.clone()]), rest)),
            (false, _) => Some(access(pos, step(Vec::new()), names)),
        }
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

/// What [`FIELD`] does.
pub(super) fn fields(method: Method, args: &[Value]) -> Answer {
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

/// Go's `index`: of lists by number, of maps by key, of texts the number of a byte.
pub(super) fn index(args: &[Value]) -> Answer {
    let failed = |why: String| gotmpl::TemplateError::Exec(format!("error calling index: {why}"));
    let (first, keys) = args.split_first().ok_or_else(|| failed("missing value".to_owned()))?;
    let mut current = first.clone();
    for key in keys {
        let out_of_range = || failed(format!("index out of range: {key}"));
        let at = |n: &i64| usize::try_from(*n).map_err(|_| out_of_range());
        current = match (&current, key) {
            (Value::Map(map), Value::String(name)) => {
                map.get(name).cloned().unwrap_or_else(|| zero_of(map.values()))
            }
            (Value::List(items), Value::Int(n)) => items.get(at(n)?).cloned().ok_or_else(out_of_range)?,
            (Value::String(text), Value::Int(n)) => {
                Value::Int(i64::from(*text.as_bytes().get(at(n)?).ok_or_else(out_of_range)?))
            }
            (Value::Nil, _) => return Err(failed("index of untyped nil".to_owned())),
            (of, key) => {
                let why = format!("cannot index {} with type {}", of.type_name(), key.type_name());
                return Err(failed(why));
            }
        };
    }
    Ok(current)
}

/// What a map gives for a key that it does not have: a map of texts an empty one, any other
/// nothing, which prints as `<no value>`.
fn zero_of<'a>(mut values: impl Iterator<Item = &'a Value>) -> Value {
    if values.all(|value| matches!(value, Value::String(_))) {
        return Value::String(Arc::from(""));
    }
    Value::Nil
}
