//! A log query's pipeline over entries as they come in, for tailing.

use bumpalo::Bump;
use pilothouse_model::{Labels, Matcher};

use crate::LogqlError;
use crate::entry::Entry;
use crate::logs::Layered;
use crate::pipeline::{Pipeline, Worker};
use crate::result::LabelPairs;
use crate::syntax::LogExpr;

/// An entry that passed, with its labels by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processed {
    pub line: String,
    pub stream: LabelPairs,
    pub metadata: LabelPairs,
    pub parsed: LabelPairs,
}

impl Processed {
    /// All labels in one sorted list.
    pub fn merged(&self) -> LabelPairs {
        let mut all = [self.stream.as_slice(), &self.metadata, &self.parsed].concat();
        all.sort_unstable();
        all
    }
}

/// One thread's running pipeline.
pub struct LogPipeline {
    matchers: Vec<Matcher>,
    pipeline: Pipeline,
    worker: Worker,
}

impl std::fmt::Debug for LogPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogPipeline").field("matchers", &self.matchers).finish_non_exhaustive()
    }
}

impl LogPipeline {
    pub fn new(log: &LogExpr) -> Result<Self, LogqlError> {
        let pipeline = Pipeline::new(&log.stages, None)?;
        let worker = pipeline.worker();
        Ok(Self { matchers: log.matchers.clone(), pipeline, worker })
    }

    /// What becomes of an entry; nothing if the selector or a filter leaves it out.
    pub fn process(
        &mut self,
        labels: &Labels,
        t_ns: i64,
        line: &str,
        metadata: &Labels,
    ) -> Option<Processed> {
        let fits = |m: &Matcher| m.matches(labels.value(&m.name));
        if !self.matchers.iter().all(fits) || !self.pipeline.passes_leading(line) {
            return None;
        }
        self.worker.refresh();
        let base = self.worker.unshared_base(labels);
        let metadata = base.beside(metadata, &mut self.worker.names);
        let arena = Bump::new();
        let mut entry = Entry::new(t_ns, line, &base, &metadata, &arena);
        if !self.pipeline.run(&mut entry, &mut self.worker) {
            return None;
        }
        let Layered { stream, metadata, parsed } = Layered::of(&entry, &self.worker.names);
        Some(Processed { line: entry.line.to_owned(), stream, metadata, parsed })
    }
}
