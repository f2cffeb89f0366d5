//! The stages that rewrite lines and labels: `line_format`, `label_format`, `decolorize`.

use std::sync::LazyLock;

use bumpalo::Bump;
use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use pilothouse_query::template::{LineTemplate, TemplateInput};

use crate::entry::{ERROR, Entry, TEMPLATE_ERROR};
use crate::names::{Names, Sym};
use crate::syntax::{FormatValue, LabelFormat};

/// A template with its labels looked up once.
#[derive(Debug)]
pub(crate) struct Template {
    template: LineTemplate,
    fields: Vec<(String, Sym)>,
    single: Option<Sym>,
}

impl Template {
    fn new(name: &str, text: &str, names: &mut Names) -> Result<Self, String> {
        let template = LineTemplate::parse(name, text).map_err(|e| e.to_string())?;
        let fields = template.fields().iter().map(|f| (f.clone(), names.sym(f))).collect();
        let single = template.single_field().map(|f| names.sym(f));
        Ok(Self { template, fields, single })
    }

    pub(crate) fn line(text: &str, names: &mut Names) -> Result<Self, String> {
        Self::new("line", text, names).map_err(|e| format!("invalid line template: {e}"))
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn uses_line(&self) -> bool {
        self.template.uses_line()
    }
}

struct Input<'i, 'a> {
    entry: &'i Entry<'a>,
    fields: &'i [(String, Sym)],
    names: &'i Names,
}

impl TemplateInput for Input<'_, '_> {
    fn line(&self) -> &str {
        self.entry.line
    }

    fn t_ns(&self) -> i64 {
        self.entry.t_ns
    }

    fn label(&self, name: &str) -> Option<&str> {
        if name == ERROR {
            return self.entry.error;
        }
        let (_, sym) = self.fields.iter().find(|(field, _)| field == name)?;
        self.entry.get(*sym)
    }

    fn each_label(&self, each: &mut dyn FnMut(&str, &str)) {
        self.entry.each_label(|_, sym, value| each(self.names.text(sym), value));
    }
}

/// What is told of an entry whose stages make too much of it.
pub(crate) const NO_ROOM: &str = "the stages of the query make too much text of this entry";

/// Replaces the line by what the template prints. A template that fails leaves it.
pub(crate) fn line_format<'a>(
    template: &Template,
    entry: &mut Entry<'a>,
    names: &Names,
    buffer: &mut String,
) {
    if let Some(sym) = template.single {
        entry.line = entry.get(sym).unwrap_or("");
        return;
    }
    buffer.clear();
    let input = Input { entry, fields: &template.fields, names };
    match template.template.render(&input, buffer) {
        Ok(()) if !entry.has_room(buffer.len()) => entry.fail(TEMPLATE_ERROR, Some(NO_ROOM)),
        Ok(()) => entry.line = entry.arena.alloc_str(buffer),
        Err(error) => entry.fail(TEMPLATE_ERROR, Some(&error.to_string())),
    }
}

#[derive(Debug)]
enum Action {
    Rename(Sym),
    Template(Box<Template>),
}

#[derive(Debug)]
pub(crate) struct LabelFormats(Vec<(Sym, Action)>);

impl LabelFormats {
    pub(crate) fn new(formats: &[LabelFormat], names: &mut Names) -> Result<Self, String> {
        let mut actions = Vec::with_capacity(formats.len());
        for (i, format) in formats.iter().enumerate() {
            let label = &format.label;
            if label == ERROR {
                return Err(format!("{ERROR} cannot be formatted"));
            }
            if formats[..i].iter().any(|f| f.label == *label) {
                return Err(format!(
                    "multiple label name '{label}' not allowed in a single format operation"
                ));
            }
            let action = match &format.value {
                FormatValue::Rename(from) => Action::Rename(names.sym(from)),
                FormatValue::Template(text) => Action::Template(Box::new(
                    Template::new("label", text, names)
                        .map_err(|e| format!("invalid template for label '{label}': {e}"))?,
                )),
            };
            actions.push((names.sym(label), action));
        }
        Ok(Self(actions))
    }

    pub(crate) fn uses_line(&self) -> bool {
        self.0.iter().any(|(_, action)| matches!(action, Action::Template(t) if t.uses_line()))
    }

    /// All templates of the stage see the labels as they were when its first one ran; renames
    /// happen in order.
    pub(crate) fn run<'a>(&self, entry: &mut Entry<'a>, names: &Names, buffer: &mut String) {
        let mut made: Vec<(usize, Result<&'a str, String>)> = Vec::new();
        for (i, (label, action)) in self.0.iter().enumerate() {
            match action {
                Action::Rename(from) => {
                    if let Some(value) = entry.get(*from) {
                        entry.set(*label, value);
                        entry.delete(*from);
                    }
                }
                Action::Template(_) => {
                    if made.is_empty() {
                        self.render_from(i, entry, names, buffer, &mut made);
                    }
                    match made.iter().find(|(at, _)| *at == i) {
                        Some((_, Ok(value))) => entry.set(*label, value),
                        Some((_, Err(error))) => entry.fail(TEMPLATE_ERROR, Some(error)),
                        None => {}
                    }
                }
            }
        }
    }

    fn render_from<'a>(
        &self,
        first: usize,
        entry: &Entry<'a>,
        names: &Names,
        buffer: &mut String,
        made: &mut Vec<(usize, Result<&'a str, String>)>,
    ) {
        let arena: &'a Bump = entry.arena;
        for (i, (_, action)) in self.0.iter().enumerate().skip(first) {
            let Action::Template(template) = action else { continue };
            buffer.clear();
            let input = Input { entry, fields: &template.fields, names };
            let made_text = match template.template.render(&input, buffer) {
                Ok(()) if entry.has_room(buffer.len()) => Ok(&*arena.alloc_str(buffer)),
                Ok(()) => Err(NO_ROOM.to_owned()),
                Err(e) => Err(e.to_string()),
            };
            made.push((i, made_text));
        }
    }

    /// Labels that the stage reads.
    pub(crate) fn referenced(formats: &[LabelFormat], out: &mut Vec<String>) {
        for format in formats {
            match &format.value {
                FormatValue::Rename(from) => out.push(from.clone()),
                FormatValue::Template(text) => {
                    if let Ok(template) = LineTemplate::parse("label", text) {
                        out.extend(template.fields().iter().cloned());
                    }
                }
            }
        }
    }
}

/// Colour and cursor sequences of terminals.
static ANSI: LazyLock<Option<CapturingPattern>> = LazyLock::new(|| {
    CapturingPattern::new(
        r"[\x{1b}\x{9b}][\[\]()#;?]*(?:(?:(?:[a-zA-Z0-9]*(?:;[a-zA-Z0-9]*)*)?\x07)|(?:(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PRZcf-ntqry=><~]))",
        Anchoring::Part,
    )
    .ok()
});

pub(crate) fn decolorize(entry: &mut Entry<'_>) {
    let bytes = entry.line.as_bytes();
    if memchr::memchr2(0x1b, 0xc2, bytes).is_none() {
        return;
    }
    if let Some(ansi) = &*ANSI
        && ansi.is_match(entry.line)
    {
        entry.line = entry.arena.alloc_str(&ansi.replace_all(entry.line, "", true));
    }
}
