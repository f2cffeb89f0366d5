//! What all stores together hold, and can give back when memory or disk are short.

use pilothouse_model::memory::Part;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::time::{day_of, format_day};
use pilothouse_model::{Clock as _, SourceError};

use crate::sources::{Opened, Stores};

impl Stores {
    /// What the stores and the control plane hold in memory, by kind.
    pub(crate) fn memory(&self) -> Vec<(Part, u64)> {
        let remotes = self.remotes();
        let (mut heads, mut indexes, mut caches) = (remotes.waiting_bytes(), remotes.index_bytes(), 0);
        for opened in self.all_open() {
            match opened {
                Opened::Metrics(store, _) => {
                    let held = store.memory();
                    heads += held.head_bytes;
                    indexes += held.index_bytes;
                    caches += held.cache_bytes;
                }
                Opened::Logs(store, _) => {
                    let held = store.memory();
                    heads += held.tail_bytes;
                    indexes += held.index_bytes;
                    caches += held.table_bytes;
                }
            }
        }
        vec![
            (Part::Heads, heads),
            (Part::Indexes, indexes),
            (Part::Caches, caches),
            (Part::Control, self.control().held_bytes()),
        ]
    }

    /// Lets go what can be read again.
    pub(crate) fn shrink_caches(&self) {
        for opened in self.all_open() {
            match opened {
                Opened::Metrics(store, _) => store.shrink_caches(),
                Opened::Logs(store, _) => store.shrink_caches(),
            }
        }
    }

    /// Whether new series and streams are refused for want of memory; told when that changes.
    pub(crate) fn close_for_new(&self, is_closed: bool) {
        let (series, streams) = self.counts();
        let was_closed = series.close(is_closed);
        streams.close(is_closed);
        match (was_closed, is_closed) {
            (false, true) => {
                tracing::error!("labels take too much memory; new series and streams are refused")
            }
            (true, false) => tracing::warn!("new series and streams are taken again"),
            _ => {}
        }
    }

    /// Brings to the disk what the fullest store has in memory.
    pub(crate) fn flush_largest(&self) -> Result<(), SourceError> {
        let held = |opened: &Opened| match opened {
            Opened::Metrics(store, _) => store.memory().head_bytes,
            Opened::Logs(store, _) => store.memory().tail_bytes,
        };
        match self.all_open().into_iter().max_by_key(held) {
            Some(Opened::Metrics(store, _)) => store.seal_all().map_err(SourceError::storage),
            Some(Opened::Logs(store, _)) => Ok(store.flush()?),
            None => Ok(()),
        }
    }

    /// Removes the oldest day that any data source has, today's never; `false` if there is none.
    /// Sources with data of that day lose it together.
    pub(crate) fn drop_oldest_day(&self) -> Result<bool, SourceError> {
        let mut stores = Vec::new();
        for source in self.with_data() {
            stores.push(self.opened(&source)?);
        }
        let oldest = |opened: &Opened| match opened {
            Opened::Metrics(store, _) => store.oldest_day(),
            Opened::Logs(store, _) => store.oldest_day(),
        };
        let today = day_of(SystemClock.now_ms());
        let Some(day) = stores.iter().filter_map(oldest).min().filter(|day| *day < today) else {
            return Ok(false);
        };
        tracing::warn!(day = format_day(day), "the disk is full; the oldest day goes");
        for opened in stores.iter().filter(|opened| oldest(opened) == Some(day)) {
            match opened {
                Opened::Metrics(store, _) => store.drop_days_through(day).map_err(SourceError::storage)?,
                Opened::Logs(store, _) => store.drop_day(day)?,
            }
        }
        Ok(true)
    }
}
