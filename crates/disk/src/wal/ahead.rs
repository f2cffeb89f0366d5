//! A store changes its memory first and logs it behind, under one lock. What the log then refuses
//! is ahead of it, and goes before everything else as soon as the log takes something again: a repeat of
//! the refused request would find its entries in memory and be told that they are stored.

use pilothouse_model::SourceError;
use pilothouse_model::write::Durable;

use super::{Position, Wal, WalError};

/// What memory has and the log has not.
#[derive(Debug, Default)]
pub struct Ahead {
    /// A record is being collected, of changes that are made already.
    is_open: bool,
    /// One that the log could not take.
    unlogged: Option<Vec<u8>>,
    /// The newest record of this process.
    last: Option<Position>,
}

impl Ahead {
    /// From now on memory changes, and the record of it is collected.
    pub fn begin(&mut self) {
        self.is_open = true;
    }

    pub fn is_any(&self) -> bool {
        self.is_open || self.unlogged.is_some()
    }

    /// Logs the record that was collected; an empty one is nothing.
    pub fn log(&mut self, wal: &Wal, record: &[u8]) -> Result<(), WalError> {
        self.is_open = false;
        if record.is_empty() {
            return Ok(());
        }
        match wal.append(record) {
            Ok(position) => self.last = Some(position),
            Err(e) => {
                self.unlogged = Some(record.to_vec());
                return Err(e);
            }
        }
        Ok(())
    }

    /// Logs what the log once refused. `collected` gives the record of a batch that a panic ended.
    pub fn catch_up<'r>(&mut self, wal: &Wal, collected: impl FnOnce() -> &'r [u8]) -> Result<(), WalError> {
        if let Some(fault) = wal.fault() {
            return Err(fault);
        }
        if self.is_open {
            self.log(wal, collected())?;
        }
        if let Some(record) = &self.unlogged {
            self.last = Some(wal.append(record)?);
            self.unlogged = None;
        }
        Ok(())
    }

    /// Logs what memory does not have yet: all is well if that is refused. To be called with nothing
    /// ahead.
    pub fn log_first(&mut self, wal: &Wal, record: &[u8]) -> Result<Position, WalError> {
        let position = wal.append(record)?;
        self.last = Some(position);
        Ok(position)
    }

    /// Up to where the log must be durable for all that was logged here.
    pub fn last(&self) -> Option<Position> {
        self.last
    }
}

impl From<WalError> for SourceError {
    fn from(error: WalError) -> Self {
        Self::NotWritable(error.to_string().into())
    }
}

impl Wal {
    /// Ends when the records up to a position are durable; at once if there is none.
    pub fn durable_upto(&self, last: Option<Position>) -> Durable {
        let Some(last) = last else { return Box::pin(std::future::ready(Ok(()))) };
        let durable = self.durable(last);
        Box::pin(async move { Ok(durable.await?) })
    }
}
