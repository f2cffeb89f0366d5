//! Texts of notifications: Go templates with Alertmanager's data, functions and definitions.
//!
//! The engine (`gotmpl`) has no methods and no kinds of its own, which Alertmanager's data has:
//! `.Alerts.Firing`, `.CommonLabels.SortedPairs.Values`, `.Remove (…)`. So a template's tree is
//! rewritten (`rewrite`): each step of a path becomes a call of one function (`data`) that knows
//! fields and methods of each kind. Everything printed passes through our own printing.

mod data;
mod defaults;
mod duration;
mod functions;
mod rewrite;
#[cfg(test)]
mod tests;
mod time;

use pilothouse_model::limits;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use gotmpl::parse::ListNode;
use gotmpl::{Template, Value, html};
use parking_lot::Mutex;
use pilothouse_query::template::begin_run;

pub use data::{AlertData, Data};

use crate::config::ConfigError;

/// The template of a field among the definitions.
const MAIN: &str = "__field__";
/// What runs it; the escaping of HTML begins at an entry.
const ENTRY: &str = "{{ template \"__field__\" . }}";

/// Why a template could not be read or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// All definitions of a configuration, and the templates of its fields as they are met.
pub struct Templates {
    defines: BTreeMap<String, ListNode>,
    compiled: Mutex<HashMap<(bool, String), Arc<Compiled>>>,
}

enum Compiled {
    Text(Template),
    Html(html::Template),
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").field("defines", &self.defines.len()).finish_non_exhaustive()
    }
}

impl Templates {
    /// The built-in definitions, and those of files (name and text) that add to them or replace
    /// them.
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ConfigError> {
        let mut defines = BTreeMap::new();
        let own = [("default.tmpl", defaults::TEXTS), ("email.tmpl", defaults::EMAIL)];
        for (name, text) in own.into_iter().chain(files) {
            let parsed = rewrite::parse(name, text).map_err(|e| ConfigError(e.0))?;
            defines.extend(parsed.defines);
        }
        Ok(Self { defines, compiled: Mutex::new(HashMap::new()) })
    }

    /// What a template prints, as it is.
    pub fn text(&self, template: &str, data: &Value) -> Result<String, TemplateError> {
        self.run(template, data, false)
    }

    /// What a template prints, values escaped for where they stand in HTML.
    pub fn html(&self, template: &str, data: &Value) -> Result<String, TemplateError> {
        self.run(template, data, true)
    }

    fn run(&self, template: &str, data: &Value, as_html: bool) -> Result<String, TemplateError> {
        if !template.contains("{{") {
            return Ok(template.to_owned());
        }
        let compiled = self.compiled(template, as_html)?;
        let mut out = Bounded(String::new());
        begin_run();
        let ran = match &*compiled {
            Compiled::Text(t) => t.execute_template_fmt(&mut out, MAIN, data),
            Compiled::Html(t) => t.execute_fmt(&mut out, data),
        };
        ran.map_err(|e| TemplateError(format!("template: {e}")))?;
        Ok(out.0)
    }

    fn compiled(&self, template: &str, as_html: bool) -> Result<Arc<Compiled>, TemplateError> {
        let key = (as_html, template.to_owned());
        if let Some(known) = self.compiled.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let compiled = Arc::new(self.compile(template, as_html)?);
        let mut all = self.compiled.lock();
        if all.len() < limits::NOTIFICATION_TEMPLATES {
            all.insert(key, Arc::clone(&compiled));
        }
        Ok(compiled)
    }

    fn compile(&self, template: &str, as_html: bool) -> Result<Compiled, TemplateError> {
        let parsed = rewrite::parse("", template)?;
        let mut trees = self.defines.clone();
        trees.extend(parsed.defines);
        trees.insert(MAIN.to_owned(), parsed.main);
        let functions = functions::functions();
        if !as_html {
            let empty = Template::new("").max_range_iters(limits::NOTIFICATION_ITERATIONS).funcs(functions);
            let add = |t: Template, (name, tree): (String, ListNode)| t.add_parse_tree(&name, tree);
            return Ok(Compiled::Text(trees.into_iter().fold(empty, add)));
        }
        let empty = html::Template::new("").max_range_iters(limits::NOTIFICATION_ITERATIONS).funcs(functions);
        let add = |t: html::Template, (name, tree): (String, ListNode)| t.add_parse_tree(&name, tree);
        let all = trees.into_iter().try_fold(empty, add).and_then(|t| t.parse(ENTRY));
        all.map(Compiled::Html).map_err(|e| TemplateError(format!("template: {e}")))
    }
}

/// A text that does not grow for ever.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > limits::NOTIFICATION_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
