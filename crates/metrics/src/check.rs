//! Looking a store over that nobody has open: every page, row and record by its checksum.
//!
//! A look changes nothing, not even what a start would mend after a crash.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pilothouse_disk::Position;
use pilothouse_disk::backup::Progress;
use pilothouse_disk::check::{self, Checked};
use pilothouse_disk::files::{self, DirectoryLock, Generation};
use pilothouse_disk::remains::{Remains, guarded};
use pilothouse_disk::sectors::read_around;
use pilothouse_model::SampleColumns;
use pilothouse_model::time::parse_day;

use crate::catalog;
use crate::codec::MAX_BLOCK_SAMPLES;
use crate::day::l0;
use crate::day::l1::{self, L1, OpenL1};
use crate::error::Error;
use crate::loaded::LoadedPage;
use crate::options::StoreOptions;
use crate::record::is_record;
use crate::store::Store;

/// What was found, and the days that have something damaged.
fn look(directory: &Path, progress: &Progress) -> Result<(Checked, BTreeSet<i32>), Error> {
    let mut checked = Checked::default();
    let mut days = BTreeSet::new();
    let catalog = directory.join("series.redb");
    let log_start = check_catalog(&catalog, &mut checked)?;
    check::done_with(&catalog, progress);
    check_copy(&catalog, &mut checked)?;
    for (path, generation, day) in day_files(directory)? {
        let before = checked.findings.len();
        check_day_file(&path, &generation, &mut checked)?;
        check::done_with(&path, progress);
        if checked.findings.len() > before {
            days.insert(day);
        }
    }
    let record =
        |payload: &[u8]| if is_record(payload) { Ok(()) } else { Err("a record cannot be read".to_owned()) };
    check::log(&directory.join("wal"), log_start, &mut checked, record)?;
    Ok((checked, days))
}

/// The files of days, and which day each is of.
fn day_files(directory: &Path) -> Result<Vec<(PathBuf, Generation, i32)>, Error> {
    let directory = directory.join("day");
    let names = if directory.is_dir() { files::file_names(&directory)? } else { Vec::new() };
    let found = names.into_iter().filter_map(|name| {
        let generation = Generation::parse(&name)?;
        let day = parse_day(&generation.stem)?;
        Some((directory.join(name), generation, day))
    });
    Ok(found.collect())
}

/// What is told as a finding: the rest of the store is looked at all the same.
fn is_finding(error: &Error) -> bool {
    error.is_damage() || error.is_unreadable()
}

/// Looks the store of a directory over, and tells file by file how far it is. Fails if somebody has
/// it open.
pub fn check(directory: &Path, progress: &Progress) -> Result<Checked, Error> {
    let _lock = DirectoryLock::acquire(directory)?;
    Ok(look(directory, progress)?.0)
}

/// Looks the store over and cuts out what is damaged: files that cannot be read at all are set
/// aside, days with damaged pages are written anew without them and the old files set aside, and
/// what can be read of the log goes to day files. What was found is returned.
pub fn repair(directory: &Path, options: StoreOptions, progress: &Progress) -> Result<Checked, Error> {
    let (checked, days) = {
        let _lock = DirectoryLock::acquire(directory)?;
        let looked = look(directory, progress)?;
        let catalog = directory.join("series.redb");
        // The store writes it anew.
        if catalog::read_copy(&catalog).is_err_and(|error| is_finding(&error)) {
            files::set_aside(&catalog.with_file_name(catalog::COPY), "damaged")?;
        }
        for (path, _, day) in day_files(directory)? {
            if looked.1.contains(&day) {
                read_around(&path)?;
            }
        }
        looked
    };
    if checked.findings.is_empty() {
        return Ok(checked);
    }
    let store = Store::open(directory, StoreOptions { background: false, ..options })?;
    store.seal_all()?;
    for day in days {
        match store.inner.compact_day(day) {
            // Met by the attempt and set aside by it; what is left of the day is read now.
            Err(error) if error.is_damage() => store.inner.compact_day(day)?,
            compacted => compacted?,
        }
    }
    store.close()?;
    Ok(checked)
}

/// Returns where the log is needed from.
fn check_catalog(path: &Path, checked: &mut Checked) -> Result<Position, Error> {
    if files::is_absent_or_empty(path)? {
        return Ok(Position(0));
    }
    if !check::database(path, catalog::KIND, catalog::VERSION, checked)? {
        return Ok(Position(0));
    }
    match catalog::look(path) {
        Ok(loaded) => Ok(loaded.log_start),
        Err(error) if is_finding(&error) => {
            checked.found(path, "", error);
            Ok(Position(0))
        }
        Err(error) => Err(error),
    }
}

fn check_copy(catalog: &Path, checked: &mut Checked) -> Result<(), Error> {
    match catalog::read_copy(catalog) {
        Err(error) if is_finding(&error) => {
            checked.found(&catalog.with_file_name(catalog::COPY), "", error);
            Ok(())
        }
        read => read.map(drop),
    }
}

fn check_day_file(path: &Path, generation: &Generation, checked: &mut Checked) -> Result<(), Error> {
    let (kind, version) = match generation.kind.as_str() {
        "l0.redb" => (l0::KIND, l0::VERSION),
        "l1.redb" => (l1::KIND, l1::VERSION),
        _ => return Ok(()),
    };
    // What redb finds is in no page that it names; the pages are read all the same.
    check::database(path, kind, version, checked)?;
    let read = match kind {
        l1::KIND => L1::new(path.to_owned(), 0, 0).get(0).and_then(|open| {
            guarded(path, || {
                check_closed(&open, checked);
                Ok(())
            })
        }),
        _ => check_young(path, checked),
    };
    match read {
        Ok(()) => Ok(()),
        Err(error) if is_finding(&error) => {
            checked.found(path, "", error);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn check_young(path: &Path, checked: &mut Checked) -> Result<(), Error> {
    let remains = Remains::open(path)?;
    if !remains.each(l0::DIRECTORY, |_, _, _| {}).is_empty() {
        checked.found(path, "", "a part of its directory cannot be read");
    }
    let gaps = remains.each(l0::PAGES, |(flush, number), bytes, _| {
        checked.parts += 1;
        let page = LoadedPage::open(bytes).map_err(Error::from);
        if let Err(error) = page.and_then(|page| read_all(&page, &crate::loaded::no_lists)) {
            checked.found(path, format!("page {number} of flush {flush}"), error);
        }
    });
    if !gaps.is_empty() {
        checked.found(path, "", "some of its pages cannot be read");
    }
    Ok(())
}

fn check_closed(open: &OpenL1, checked: &mut Checked) {
    let lists = |number| open.load_times(number).map(std::sync::Arc::new);
    for number in open.page_numbers() {
        checked.parts += 1;
        if let Err(error) = open.load(number).and_then(|page| read_all(&page, &lists)) {
            // After a read that the disk failed nothing more is given.
            let is_last = error.is_latched();
            checked.found(open.path(), format!("page {number}"), error);
            if is_last {
                checked.found(open.path(), "", "what follows was not looked at");
                return;
            }
        }
    }
    for position in (0..open.about.series).step_by(256) {
        if let Err(error) = open.index.page_of(position) {
            checked.found(open.path(), format!("labels from series {position} on"), error);
        }
    }
}

/// Decodes every block of a page.
fn read_all(page: &LoadedPage, lists: crate::loaded::SharedLists<'_>) -> Result<(), Error> {
    let mut columns = SampleColumns::default();
    for entry in page.entries() {
        columns.clear();
        page.read_block(entry, (i64::MIN, i64::MAX), lists, &mut columns)?;
        if columns.len() > MAX_BLOCK_SAMPLES {
            return Err(crate::codec::CodecError::Corrupt("a block has too many samples").into());
        }
    }
    Ok(())
}
