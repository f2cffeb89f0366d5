//! How a change is made: on a copy of the image, in one transaction with its entries of the audit trail,
//! and only then seen. One at a time; readers hold no lock while they look at the image.

use std::sync::Arc;

use parking_lot::MutexGuard;
use pilothouse_disk::remains::guarded;
use pilothouse_model::limits::Limits;
use redb::{TableDefinition, WriteTransaction};

use crate::audit::{Actor, AuditEntry, Event};
use crate::control::{AUDIT, Control, Options, load};
use crate::copy;
use crate::error::{Error, Resource};
use crate::ids::ProjectId;
use crate::image::{Held, Image};
use crate::project::Project;
use crate::row::{self, Key as _, Row, Stamp};

/// Who holds it changes the file.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Of the next entry of the audit trail.
    pub(crate) next_number: u64,
    /// Nothing was changed since the copy was written.
    pub(crate) is_copied: bool,
    /// How often the file was written anew since it was opened.
    pub(crate) mends: u32,
}

/// A change in the making: what it sees is what it has put.
pub(crate) struct Draft<'a> {
    options: &'a Options,
    image: Image,
    writes: Vec<Write>,
    /// Of its next entry of the audit trail.
    number: u64,
    events: Vec<Event>,
    now_ms: i64,
}

/// A row to be written, or removed.
struct Write {
    table: &'static str,
    key: String,
    row: Option<Vec<u8>>,
}

impl Draft<'_> {
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.options.limits.now()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Of a record that is made now.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { number: self.number, created_ms: self.now_ms, updated_ms: self.now_ms }
    }

    pub(crate) fn put<R: Held>(&mut self, row: R) {
        self.keep(&row);
        self.image.put(row);
    }

    pub(crate) fn remove<R: Held>(&mut self, key: &R::Key) {
        self.forget::<R>(key);
        self.image.remove::<R>(key);
    }

    /// Writes a row that is not in the image.
    pub(crate) fn keep<R: Row>(&mut self, row: &R) {
        self.writes.push(Write { table: R::TABLE, key: row.key().text(), row: Some(row::encode(row)) });
    }

    /// Removes a row that is not in the image.
    pub(crate) fn forget<R: Row>(&mut self, key: &R::Key) {
        self.writes.push(Write { table: R::TABLE, key: key.text(), row: None });
    }

    /// Adds an entry to the audit trail; what is made after it has a later stamp.
    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push(event);
        self.number += 1;
    }

    /// A project is one from the moment it is named.
    pub(crate) fn touch_project(&mut self, id: ProjectId) {
        if self.image.get::<Project>(&id).is_none() {
            self.put(Project { id, stamp: self.stamp() });
        }
    }

    pub(crate) fn check_quota(&self, resource: Resource, current: usize, quota: u64) -> Result<(), Error> {
        let current = current as u64;
        if current < quota { Ok(()) } else { Err(Error::Quota { resource, quota, current }) }
    }

    fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.events.is_empty()
    }

    /// Rows that are to go, by table and key.
    fn gone(&self) -> Vec<(&str, &str)> {
        let gone = self.writes.iter().filter(|write| write.row.is_none());
        gone.map(|write| (write.table, write.key.as_str())).collect()
    }
}

impl Control {
    /// Makes a change and its entry of the audit trail, both or none; durable when it returns.
    pub(crate) fn change<T>(
        &self,
        by: &Actor,
        make: impl FnOnce(&mut Draft<'_>) -> Result<(T, Event), Error>,
    ) -> Result<T, Error> {
        self.change_all(by, |draft| {
            let (value, event) = make(draft)?;
            draft.tell(event);
            Ok(value)
        })
    }

    /// Makes a change of several things, each with its entry, all of it or nothing.
    pub(crate) fn change_all<T, E: From<Error>>(
        &self,
        by: &Actor,
        make: impl FnOnce(&mut Draft<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = self.writing()?;
        let mut draft = self.draft(&writer);
        let value = make(&mut draft)?;
        if draft.is_empty() {
            return Ok(value);
        }
        copy::forget(self.database().path(), &draft.gone())?;
        writer.is_copied = false;
        for entry in &self.commit(&mut writer, draft, by)? {
            self.told(entry);
        }
        Ok(value)
    }

    /// Notes a change of something that is kept elsewhere.
    pub fn note(&self, by: &Actor, event: Event) -> Result<(), Error> {
        self.change(by, |_| Ok(((), event)))
    }

    /// Writes figures, of which the audit trail says nothing.
    pub(crate) fn quietly(&self, make: impl FnOnce(&mut Draft<'_>)) -> Result<(), Error> {
        let mut writer = self.writing()?;
        let mut draft = self.draft(&writer);
        make(&mut draft);
        if draft.is_empty() {
            return Ok(());
        }
        self.commit(&mut writer, draft, &Actor::server()).map(drop)
    }

    /// Whoever comes when the file was closed finds it closed, and changes nothing beside it either.
    fn writing(&self) -> Result<MutexGuard<'_, Writer>, Error> {
        let writer = self.writer();
        match self.database().is_closed() {
            true => Err(self.fault(redb::Error::DatabaseClosed)),
            false => Ok(writer),
        }
    }

    fn draft(&self, writer: &Writer) -> Draft<'_> {
        Draft {
            options: self.options(),
            image: (*self.image()).clone(),
            writes: Vec::new(),
            number: writer.next_number,
            events: Vec::new(),
            now_ms: self.now_ms(),
        }
    }

    fn commit(
        &self,
        writer: &mut Writer,
        mut draft: Draft<'_>,
        by: &Actor,
    ) -> Result<Vec<AuditEntry>, Error> {
        let (events, now_ms) = (std::mem::take(&mut draft.events), draft.now_ms);
        let numbered = (writer.next_number..).zip(events);
        let entries: Vec<AuditEntry> =
            numbered.map(|(number, event)| event.entry(number, now_ms, by)).collect();
        self.write(writer, |transaction| {
            self.write_rows(transaction, &draft.writes)?;
            self.write_audit(transaction, &entries)
        })?;
        writer.next_number = draft.number;
        self.show(draft.image);
        Ok(entries)
    }

    /// One transaction, all of it or nothing.
    fn write(
        &self,
        writer: &mut Writer,
        work: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let written: Result<(), Error> = guarded(self.database().path(), || {
            self.database().write(|transaction| {
                self.crash_point("begun");
                work(transaction)?;
                self.crash_point("written");
                Ok(())
            })
        });
        match &written {
            Ok(()) => self.crash_point("committed"),
            // Nothing of the change is in the file that comes.
            Err(cause) if cause.is_in_file() && self.mend(writer, cause) => {}
            Err(_) => self.recover(writer),
        }
        written
    }

    fn write_rows(&self, transaction: &WriteTransaction, writes: &[Write]) -> Result<(), Error> {
        for write in writes {
            let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(write.table);
            let mut table = transaction.open_table(definition).map_err(|e| self.fault(e.into()))?;
            match &write.row {
                Some(row) => table.insert(write.key.as_str(), row.as_slice()).map(|_| ()),
                None => table.remove(write.key.as_str()).map(|_| ()),
            }
            .map_err(|e| self.fault(e.into()))?;
        }
        Ok(())
    }

    /// Appends entries; the oldest ones go where there are too many.
    fn write_audit(&self, transaction: &WriteTransaction, entries: &[AuditEntry]) -> Result<(), Error> {
        let Some(last) = entries.last() else { return Ok(()) };
        let mut table = transaction.open_table(AUDIT).map_err(|e| self.fault(e.into()))?;
        for entry in entries {
            let row = row::encode(entry);
            table.insert(entry.number, row.as_slice()).map_err(|e| self.fault(e.into()))?;
        }
        let oldest = last.number.saturating_sub(self.limits().max_audit_entries);
        table.retain_in(..oldest, |_, _| false).map_err(|e| self.fault(e.into()))
    }

    /// A transaction of the workers' tables, which have no image. The copy has nothing any more of what
    /// is `gone`, by table and key.
    pub(crate) fn transact(
        &self,
        gone: &[(&str, &str)],
        work: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut writer = self.writing()?;
        copy::forget(self.database().path(), gone)?;
        writer.is_copied = false;
        self.write(&mut writer, work)
    }

    /// After a failed write: whether the commit took place is known to the file alone, and redb
    /// refuses everything until it is opened again.
    fn recover(&self, writer: &mut Writer) {
        let reopened = self.database().reopen().map_err(Error::from);
        match reopened.and_then(|()| guarded(self.database().path(), || load(self.database()))) {
            Ok((image, next_number, _)) => {
                self.show(image);
                writer.next_number = next_number;
            }
            Err(e) => tracing::error!("the control plane cannot be read back after a failed write: {e}"),
        }
    }

    /// A place where a test may stop the process as a crash would.
    #[inline]
    fn crash_point(&self, name: &'static str) {
        #[cfg(test)]
        if let Some(points) = &*self.crash_points.lock() {
            points.reached(name);
        }
        let _ = name;
    }
}
