//! Template trees: read, checked for unknown functions, and rewritten so that paths are calls
//! and printed values pass through our printing.

use std::collections::BTreeMap;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Parser, PipeNode, Pos, SmolStr};

use super::TemplateError;
use super::functions::{GET, PRINT, is_function};

/// Behind the text, so that it comes out at its end only if all of it was read: the engine's
/// parser does not mind blocks that are never closed.
const MARK: char = '\u{1}';

pub(super) struct Parsed {
    pub(super) main: ListNode,
    pub(super) defines: BTreeMap<String, ListNode>,
}

pub(super) fn parse(name: &str, text: &str) -> Result<Parsed, TemplateError> {
    let error = |e: gotmpl::TemplateError| {
        let text = e.to_string();
        TemplateError(if text.starts_with("template:") { text } else { format!("template: {name}: {text}") })
    };
    let marked = format!("{text}{MARK}");
    let parser = Parser::with_name(Some(name), &marked, "{{", "}}").map_err(error)?;
    let (mut main, defines) = parser.parse().map_err(error)?;
    if !take_mark(&mut main) {
        return Err(TemplateError(format!("template: {name}: unexpected {{{{end}}}} or end of text")));
    }
    let rewriter = Rewriter { name };
    rewriter.list(&mut main)?;
    let mut rewritten = BTreeMap::new();
    for define in defines {
        let mut body = define.body;
        rewriter.list(&mut body)?;
        rewritten.insert(define.name.to_string(), body);
    }
    Ok(Parsed { main, defines: rewritten })
}

fn take_mark(main: &mut ListNode) -> bool {
    let Some(Node::Text(last)) = main.nodes.last_mut() else { return false };
    let Some(text) = last.text.strip_suffix(MARK) else { return false };
    last.text = text.into();
    if last.text.is_empty() {
        main.nodes.pop();
    }
    true
}

struct Rewriter<'a> {
    name: &'a str,
}

impl Rewriter<'_> {
    fn list(&self, list: &mut ListNode) -> Result<(), TemplateError> {
        list.nodes.iter_mut().try_for_each(|node| self.node(node))
    }

    fn node(&self, node: &mut Node) -> Result<(), TemplateError> {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => {
                self.pipe(&mut action.pipe)?;
                if action.pipe.decl.is_empty() {
                    add_printing(&mut action.pipe, action.pos);
                }
                Ok(())
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => self.branch(branch),
            Node::Template(call) => call.pipe.as_mut().map_or(Ok(()), |pipe| self.pipe(pipe)),
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn branch(&self, branch: &mut BranchNode) -> Result<(), TemplateError> {
        self.pipe(&mut branch.pipe)?;
        self.list(&mut branch.body)?;
        branch.else_body.as_mut().map_or(Ok(()), |body| self.list(body))
    }

    fn pipe(&self, pipe: &mut PipeNode) -> Result<(), TemplateError> {
        pipe.commands.iter_mut().try_for_each(|command| self.command(command))
    }

    /// A path in front takes the other arguments: a method. Paths behind are read on their own.
    fn command(&self, command: &mut CommandNode) -> Result<(), TemplateError> {
        let mut args = std::mem::take(&mut command.args).into_iter();
        let Some(first) = args.next() else { return Ok(()) };
        command.args = match self.path(first)? {
            (Some(call), _) => call,
            (None, Some(plain)) => vec![plain],
            (None, None) => Vec::new(),
        };
        for arg in args {
            command.args.push(self.argument(arg)?);
        }
        Ok(())
    }

    fn argument(&self, arg: Expr) -> Result<Expr, TemplateError> {
        let pos = arg.pos();
        Ok(match self.path(arg)? {
            (Some(call), _) => piped(pos, call),
            (None, plain) => plain.unwrap_or(Expr::Nil(pos)),
        })
    }

    /// A path as the arguments of a call; or the expression, where it is none.
    #[allow(clippy::type_complexity)] // either of two, told apart by what is there
    fn path(&self, expr: Expr) -> Result<(Option<Vec<Expr>>, Option<Expr>), TemplateError> {
        let (pos, base, names) = match expr {
            Expr::Field(pos, names) => (pos, Expr::Dot(pos), names),
            Expr::Variable(pos, name, names) => (pos, Expr::Variable(pos, name, Vec::new()), names),
            Expr::Chain(pos, inner, names) => (pos, self.argument(*inner)?, names),
            Expr::Pipe(pos, mut pipe) => {
                self.pipe(&mut pipe)?;
                return Ok((None, Some(Expr::Pipe(pos, pipe))));
            }
            Expr::Identifier(pos, name) => {
                self.check(&name, pos)?;
                return Ok((None, Some(Expr::Identifier(pos, name))));
            }
            other => return Ok((None, Some(other))),
        };
        let mut names = names.into_iter().peekable();
        if names.peek().is_none() {
            return Ok((None, Some(base)));
        }
        let mut call = vec![base];
        for name in names {
            let inner = if call.len() == 1 { call.remove(0) } else { piped(pos, call) };
            let get = Expr::Identifier(pos, SmolStr::new(GET));
            call = vec![get, inner, Expr::String(pos, name.as_str().into())];
        }
        Ok((Some(call), None))
    }

    fn check(&self, name: &str, pos: Pos) -> Result<(), TemplateError> {
        if is_function(name) {
            return Ok(());
        }
        Err(TemplateError(format!("template: {}:{}: function {name:?} not defined", self.name, pos.line)))
    }
}

/// Lets what an action prints pass through our printing. An escaper that is written at the end
/// stays there, since escaping takes it into account.
fn add_printing(pipe: &mut PipeNode, pos: Pos) {
    let print = CommandNode { pos, args: vec![Expr::Identifier(pos, SmolStr::new(PRINT))] };
    let ends_in_escaper = pipe.commands.last().is_some_and(|command| {
        matches!(command.args.first(), Some(Expr::Identifier(_, name)) if name == "html" || name == "urlquery")
    });
    match pipe.commands.len() {
        1 if ends_in_escaper => {}
        n if ends_in_escaper => pipe.commands.insert(n - 1, print),
        _ => pipe.commands.push(print),
    }
}

fn piped(pos: Pos, args: Vec<Expr>) -> Expr {
    let commands = vec![CommandNode { pos, args }];
    Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands, is_assign: false })
}
