//! A pipeline made ready to run: stages in the order they run, names as numbers, hints for the
//! parsers, and what it needs of the store.

use std::sync::Arc;

use bumpalo::Bump;
use hashbrown::HashMap;
use pilothouse_model::logs::{LineDemand, LineNeed};
use pilothouse_model::{EntryBatch, Labels};
use rustc_hash::FxBuildHasher;

use crate::LogqlError;
use crate::entry::{Base, Entry, Layer, TEMPLATE_ERROR, WELL_KNOWN};
use crate::format::{LabelFormats, NO_ROOM, Template, decolorize, line_format};
use crate::hints::{Checks, Hints, Parsing, Wanted};
use crate::json::{JsonPaths, KeyCache, json, parse_path, unpack};
use crate::label_filter::{Filter, labels_of};
use crate::line_filter::LineFilters;
use crate::logfmt::{Logfmt, LogfmtFields, parse_key};
use crate::names::{Names, Sym};
use crate::parsers::{RegexpParser, run_pattern};
use crate::pattern::Pattern;
use crate::syntax::{LabelChoice, Stage};

#[derive(Debug)]
enum Step {
    Lines(LineFilters),
    /// The number of its key cache.
    Json(usize),
    Logfmt(Logfmt),
    Regexp(RegexpParser, Vec<Sym>),
    Pattern(Pattern, Vec<Sym>),
    Unpack,
    JsonPaths(JsonPaths),
    LogfmtFields(LogfmtFields),
    Filter(Filter),
    LineFormat(Template),
    LabelFormat(LabelFormats),
    Decolorize,
    Drop(Vec<(Sym, LabelChoice)>),
    Keep(Vec<(Sym, LabelChoice)>),
}

impl Step {
    fn is_parser(&self) -> bool {
        matches!(
            self,
            Self::Json(..)
                | Self::Logfmt(..)
                | Self::Pattern(..)
                | Self::Unpack
                | Self::JsonPaths(_)
                | Self::LogfmtFields(_)
        )
    }

    fn reads_line(&self) -> bool {
        match self {
            Self::Filter(_) | Self::Drop(_) | Self::Keep(_) => false,
            Self::LineFormat(template) => template.uses_line(),
            Self::LabelFormat(formats) => formats.uses_line(),
            _ => true,
        }
    }
}

/// What comes of a pipeline: how an entry's line and labels are read at its end.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Filters that see the line as it is stored.
    leading: LineFilters,
    steps: Vec<Step>,
    pub(crate) hints: Hints,
    /// None where a metric query names the labels it groups by.
    checks: Option<Checks>,
    names: Names,
    key_caches: usize,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("len", &self.len()).finish()
    }
}

fn stage_error(stage: &Stage, error: &str) -> LogqlError {
    LogqlError::semantic(format!("stage '{stage}' : {error}"))
}

/// Loki's order: filters on lines go ahead of everything that leaves the line alone. What changes
/// the line, and filters on labels, stay in front of the filters behind them.
fn reordered(stages: &[Stage]) -> Vec<Stage> {
    let mut out: Vec<Stage> = Vec::with_capacity(stages.len());
    let mut filters = Vec::new();
    let mut others: Vec<Stage> = Vec::new();
    fn settle(out: &mut Vec<Stage>, filters: &mut Vec<crate::syntax::LineFilter>, others: &mut Vec<Stage>) {
        if !filters.is_empty() {
            out.push(Stage::Lines(std::mem::take(filters)));
        }
        out.append(others);
    }
    for stage in stages {
        match stage {
            Stage::Filter(_) => {
                settle(&mut out, &mut filters, &mut others);
                out.push(stage.clone());
            }
            Stage::Lines(lines) => filters.extend(lines.iter().cloned()),
            Stage::LineFormat(_) | Stage::Unpack => {
                others.push(stage.clone());
                settle(&mut out, &mut filters, &mut others);
            }
            other => others.push(other.clone()),
        }
    }
    settle(&mut out, &mut filters, &mut others);
    out
}

impl Pipeline {
    /// `wanted`: what a metric query looks at; none for a log query, which shows everything.
    pub(crate) fn new(stages: &[Stage], wanted: Option<&Wanted>) -> Result<Self, LogqlError> {
        let mut names = Names::default();
        for name in WELL_KNOWN {
            names.sym(name);
        }
        let mut pipeline = Self {
            leading: LineFilters::default(),
            steps: Vec::new(),
            hints: Hints::default(),
            checks: wanted.is_none_or(Wanted::allows_checks).then(Checks::default),
            names: Names::default(),
            key_caches: 0,
        };
        for (i, stage) in reordered(stages).iter().enumerate() {
            let step = pipeline.step(stage, &mut names).map_err(|error| stage_error(stage, &error))?;
            match step {
                Step::Lines(filters) if i == 0 => pipeline.leading = filters,
                Step::Lines(filters) if filters.is_empty() => {}
                Step::Filter(Filter::Always) => {}
                Step::Filter(filter) => {
                    pipeline.check_early(&filter);
                    pipeline.steps.push(Step::Filter(filter));
                }
                step => pipeline.steps.push(step),
            }
        }
        if let Some(wanted) = wanted {
            pipeline.hints = Hints::new(wanted, &mut names);
            if pipeline.hints.nothing {
                pipeline.steps.retain(|step| !step.is_parser());
            }
        }
        pipeline.names = names;
        Ok(pipeline)
    }

    fn step(&mut self, stage: &Stage, names: &mut Names) -> Result<Step, String> {
        let choices = |choices: &[LabelChoice], names: &mut Names| {
            choices.iter().map(|choice| (names.sym(choice.name()), choice.clone())).collect()
        };
        Ok(match stage {
            Stage::Lines(filters) => Step::Lines(LineFilters::new(filters)?),
            Stage::Json => {
                self.key_caches += 1;
                Step::Json(self.key_caches - 1)
            }
            Stage::Logfmt { strict, keep_empty } => {
                Step::Logfmt(Logfmt { strict: *strict, keep_empty: *keep_empty })
            }
            Stage::Regexp(text) => {
                let parser = RegexpParser::new(text)?;
                let symbols = parser.symbols(names);
                Step::Regexp(parser, symbols)
            }
            Stage::Pattern(text) => {
                let pattern = Pattern::parser(text)?;
                let symbols = pattern.names().iter().map(|name| names.sym(name)).collect();
                Step::Pattern(pattern, symbols)
            }
            Stage::Unpack => Step::Unpack,
            Stage::JsonFields(fields) => {
                let mut paths = Vec::with_capacity(fields.len());
                for field in fields {
                    let path = parse_path(&field.expression)
                        .map_err(|e| format!("cannot parse expression [{}]: {e}", field.expression))?;
                    paths.push((names.sym(&field.label), path));
                }
                Step::JsonPaths(JsonPaths { paths })
            }
            Stage::LogfmtFields { fields, strict, .. } => {
                let mut parsed = Vec::with_capacity(fields.len());
                for field in fields {
                    let key = parse_key(&field.expression)
                        .map_err(|e| format!("cannot parse expression [{}]: {e}", field.expression))?;
                    parsed.push((names.sym(&field.label), names.sym(&key)));
                }
                Step::LogfmtFields(LogfmtFields { fields: parsed, strict: *strict })
            }
            Stage::Filter(filter) => Step::Filter(Filter::new(filter, names)?),
            Stage::LineFormat(text) => Step::LineFormat(Template::line(text, names)?),
            Stage::LabelFormat(formats) => Step::LabelFormat(LabelFormats::new(formats, names)?),
            Stage::Decolorize => Step::Decolorize,
            Stage::Drop(list) => Step::Drop(choices(list, names)),
            Stage::Keep(list) => Step::Keep(choices(list, names)),
        })
    }

    /// Lets parsers ask a filter as soon as they set its label.
    pub(crate) fn check_early(&mut self, filter: &Filter) {
        if let Some(checks) = &mut self.checks {
            checks.add(filter);
        }
    }

    pub(crate) fn demands(&self) -> &[LineDemand] {
        self.leading.demands()
    }

    pub(crate) fn has_leading_filters(&self) -> bool {
        !self.leading.is_empty()
    }

    /// Whether labels and line come out as they went in.
    pub(crate) fn has_no_steps(&self) -> bool {
        self.steps.is_empty()
    }

    /// Puts the numbers of the entries whose stored lines pass into `out`.
    pub(crate) fn select(&self, batch: &EntryBatch<'_>, out: &mut Vec<u32>) {
        if self.leading.is_empty() {
            out.clear();
            out.extend(0..batch.len() as u32);
        } else {
            self.leading.select(batch.text, batch.bounds, out);
        }
    }

    pub(crate) fn passes_leading(&self, line: &str) -> bool {
        self.leading.passes(line)
    }

    pub(crate) fn line_need(&self) -> LineNeed {
        let reads = !self.leading.is_empty() || self.steps.iter().any(Step::reads_line);
        if reads { LineNeed::Text } else { LineNeed::Nothing }
    }

    pub(crate) fn worker(&self) -> Worker {
        Worker {
            names: self.names.clone(),
            plan_names: self.names.len(),
            caches: (0..self.key_caches).map(|_| KeyCache::default()).collect(),
            bases: HashMap::default(),
            buffer: String::new(),
            epoch: 0,
        }
    }

    /// Interns a name while the pipeline is being planned.
    pub(crate) fn sym(&mut self, name: &str) -> Sym {
        self.names.sym(name)
    }

    /// A filter that runs behind the pipeline.
    pub(crate) fn filter(&mut self, filter: &crate::syntax::LabelFilter) -> Result<Filter, String> {
        Filter::lenient(filter, &mut self.names)
    }

    /// Runs all stages behind the leading filters; whether the entry stays.
    pub(crate) fn run<'a>(&self, entry: &mut Entry<'a>, worker: &mut Worker) -> bool {
        let Worker { names, caches, buffer, .. } = worker;
        let parsing = Parsing { hints: &self.hints, checks: self.checks.as_ref() };
        for step in &self.steps {
            let stays = match step {
                Step::Lines(filters) => filters.passes(entry.line),
                Step::Json(cache) => match caches.get_mut(*cache) {
                    Some(cache) => json(entry, parsing, cache, names),
                    None => true,
                },
                Step::Logfmt(logfmt) => logfmt.run(entry, parsing, names),
                Step::Regexp(parser, symbols) => parser.run(symbols, entry, parsing, names),
                Step::Pattern(pattern, symbols) => run_pattern(pattern, symbols, entry, parsing, names),
                Step::Unpack => unpack(entry, parsing, names),
                Step::JsonPaths(paths) => {
                    paths.run(entry, &self.hints, names);
                    true
                }
                Step::LogfmtFields(fields) => {
                    fields.run(entry, &self.hints, names);
                    true
                }
                Step::Filter(filter) => filter.keeps(entry),
                Step::LineFormat(template) => {
                    line_format(template, entry, names, buffer);
                    true
                }
                Step::LabelFormat(formats) => {
                    formats.run(entry, names, buffer);
                    true
                }
                Step::Decolorize => {
                    decolorize(entry);
                    true
                }
                Step::Drop(choices) => {
                    drop_labels(choices, entry);
                    true
                }
                Step::Keep(choices) => {
                    keep_labels(choices, entry);
                    true
                }
            };
            if !stays {
                return false;
            }
            if !entry.has_room(0) {
                entry.fail(TEMPLATE_ERROR, Some(NO_ROOM));
                return true;
            }
        }
        true
    }
}

fn drop_labels(choices: &[(Sym, LabelChoice)], entry: &mut Entry<'_>) {
    use crate::entry::{ERROR_DETAILS_SYM, ERROR_SYM};
    for (sym, choice) in choices {
        let value = match *sym {
            ERROR_SYM => entry.error,
            ERROR_DETAILS_SYM => entry.error_details,
            sym => entry.get(sym),
        };
        let applies = match choice {
            LabelChoice::Name(_) => value.is_some(),
            LabelChoice::Matching(matcher) => matcher.matches(value.unwrap_or("")),
        };
        match *sym {
            _ if !applies => {}
            ERROR_SYM => entry.error = None,
            ERROR_DETAILS_SYM => entry.error_details = None,
            sym => entry.delete(sym),
        }
    }
}

fn keep_labels(choices: &[(Sym, LabelChoice)], entry: &mut Entry<'_>) {
    let mut gone = Vec::new();
    entry.each_label(|_, sym, value| {
        let kept = choices.iter().any(|(wanted, choice)| {
            *wanted == sym
                && match choice {
                    LabelChoice::Name(_) => true,
                    LabelChoice::Matching(matcher) => matcher.matches(value),
                }
        });
        if !kept && (sym as usize) >= WELL_KNOWN.len() {
            gone.push(sym);
        }
    });
    for sym in gone {
        entry.delete(sym);
    }
}

/// Labels that the stages of a metric query read, for the hints.
pub(crate) fn referenced(stages: &[Stage]) -> Vec<String> {
    let mut out = Vec::new();
    for stage in stages {
        match stage {
            Stage::Filter(filter) => labels_of(filter, &mut out),
            Stage::LineFormat(text) => {
                let mut names = Names::default();
                if let Ok(template) = Template::line(text, &mut names) {
                    out.extend(template.fields().map(str::to_owned));
                }
            }
            Stage::LabelFormat(formats) => LabelFormats::referenced(formats, &mut out),
            _ => {}
        }
    }
    out
}

/// What one thread holds while it runs a pipeline.
pub(crate) struct Worker {
    pub(crate) names: Names,
    plan_names: usize,
    caches: Vec<KeyCache>,
    bases: HashMap<u64, Arc<Base>, FxBuildHasher>,
    buffer: String,
    epoch: u64,
}

impl Worker {
    /// Changes when names get new numbers.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Between batches: forgets the names the data brought, if they have become too many.
    pub(crate) fn refresh(&mut self) {
        if self.names.is_overfull() || self.bases.len() > 10_000 {
            self.forget();
        }
    }

    /// The labels of a stream, looked up once.
    pub(crate) fn base(&mut self, stream: u64, labels: &Labels) -> Arc<Base> {
        if let Some(base) = self.bases.get(&stream) {
            return Arc::clone(base);
        }
        let base = Arc::new(Base::new(labels, &mut self.names));
        self.bases.insert(stream, Arc::clone(&base));
        base
    }

    /// Numbers of names die with it.
    fn forget(&mut self) {
        self.epoch += 1;
        self.names.truncate(self.plan_names);
        self.bases.clear();
        self.caches.iter_mut().for_each(KeyCache::clear);
    }

    /// The labels of a stream that is met once.
    pub(crate) fn unshared_base(&mut self, labels: &Labels) -> Base {
        Base::new(labels, &mut self.names)
    }

    /// The metadata sets of a batch as its stream shows them.
    pub(crate) fn metadata<'a>(&mut self, batch: &EntryBatch<'a>, base: &Base) -> Vec<Vec<(Sym, &'a str)>> {
        batch.metadata_sets.iter().map(|set| base.beside(set, &mut self.names)).collect()
    }
}

/// Runs `each` for the entries of a batch that pass all filters and stages. Entries come in the
/// order of `picked`.
pub(crate) fn for_each_entry(
    pipeline: &Pipeline,
    worker: &mut Worker,
    batch: &EntryBatch<'_>,
    picked: &mut dyn Iterator<Item = u32>,
    each: &mut dyn FnMut(u32, &mut Entry<'_>, &mut Names) -> bool,
) {
    let base = worker.base(batch.stream, batch.labels);
    let sets = worker.metadata(batch, &base);
    let mut arena = Bump::with_capacity(16 << 10);
    for i in picked {
        if arena.allocated_bytes() > 1 << 20 {
            arena = Bump::with_capacity(16 << 10);
        } else {
            arena.reset();
        }
        let at = i as usize;
        let set = batch.metadata.get(at).and_then(|set| sets.get(*set as usize));
        let t_ns = batch.times_ns.get(at).copied().unwrap_or(0);
        let mut entry = Entry::new(t_ns, batch.line(at), &base, set.map_or(&[], Vec::as_slice), &arena);
        if pipeline.run(&mut entry, worker) && !each(i, &mut entry, &mut worker.names) {
            return;
        }
    }
}

/// Writes labels as they stand, in the order they stand: equal keys mean equal labels in equal
/// layers, unequal ones nothing. Keys of one worker compare only within one [`Worker::epoch`].
pub(crate) fn labels_key(entry: &Entry<'_>, key: &mut Vec<u8>) {
    key.clear();
    entry.each_label(|layer, sym, value| {
        key.extend_from_slice(&sym.to_le_bytes());
        key.push(match layer {
            Layer::Stream => 0,
            Layer::Metadata => 1,
            Layer::Parsed => 2,
        });
        push_value(key, Some(value));
    });
}

/// Appends a value so that no two lists of values give the same bytes.
pub(crate) fn push_value(key: &mut Vec<u8>, value: Option<&str>) {
    let length = value.map_or(u32::MAX, |v| v.len() as u32);
    key.extend_from_slice(&length.to_le_bytes());
    key.extend_from_slice(value.unwrap_or("").as_bytes());
}
