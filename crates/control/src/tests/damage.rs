//! Whatever page of the file goes bad, the server starts, has all that is certain of the file as it was, and
//! the rest as the copy has it; deleted tokens stay deleted.

use std::collections::BTreeMap;
use std::path::Path;

use pilothouse_disk::check::Checked;
use pilothouse_disk::remains::{Gaps, Remains};
use pilothouse_model::{StateChange, StateStore as _};
use redb::TableDefinition;

use super::*;
use crate::control::{AUDIT, table_of};
use crate::image::Image;
use crate::row::{Key as _, Row as _};
use crate::state::RECORDS;
use crate::token::{StoredToken, TokenUseRow};
use crate::{Scope, copy};

const PAGE: usize = 4096;
const COUNT: usize = 24;
const TABLES: [&str; 3] = ["rules", "silences", "checks"];

/// Tokens and records, by table and key.
type Rows = BTreeMap<(String, String), String>;

fn rows_of(control: &Control) -> Rows {
    let mut rows = Rows::new();
    let image = control.image();
    for (id, token) in image.tokens.iter() {
        rows.insert(("tokens".to_owned(), id.text()), format!("{token:?}"));
    }
    for table in TABLES {
        for (key, value) in control.load(table).unwrap() {
            rows.insert((table.to_owned(), key), format!("{value:?}"));
        }
    }
    rows
}

fn record(table: &'static str, key: usize, value: Option<u8>) -> StateChange {
    StateChange { table, key: format!("key-{key}"), value: value.map(|byte| vec![byte; 300]) }
}

/// A directory in use: what its copy has, what came after that, and the files as they were then.
struct Used {
    directory: tempfile::TempDir,
    options: Options,
    copied: Rows,
    all: Rows,
    deleted: String,
    file: Vec<u8>,
    copy: Vec<u8>,
}

impl Used {
    fn new() -> Self {
        let fixture = Fixture::new();
        let path = fixture.directory.path().join(FILE);
        let token = |name: String| fixture.token(&name, Scopes::from_iter([Scope::ReadLogs])).0;
        let early: Vec<_> = (0..COUNT).map(|i| token(format!("early-{i}"))).collect();
        for i in 0..COUNT {
            fixture.control.apply(&TABLES.map(|table| record(table, i, Some(1)))).unwrap();
        }
        fixture.control.renew_copy();
        let deleted = early[COUNT / 2].id;
        fixture.control.delete_token(&root(), Region::FrPar, deleted).unwrap();
        let mut copied = rows_of(&fixture.control);
        (0..5).for_each(|i| drop(token(format!("late-{i}"))));
        for table in TABLES {
            let changes = [record(table, 3, Some(2)), record(table, 5, None), record(table, COUNT, Some(2))];
            fixture.control.apply(&changes).unwrap();
        }
        let all = rows_of(&fixture.control);
        copied.retain(|(table, key), _| table != "tokens" || *key != deleted.text());
        let (file, copy) = (std::fs::read(&path).unwrap(), std::fs::read(copy::path_of(&path)).unwrap());
        let options = fixture.options();
        let Fixture { directory, control, .. } = fixture;
        drop(control);
        Self { directory, options, copied, all, deleted: deleted.text(), file, copy }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join(FILE)
    }

    /// Lays the files there as they were, one of them changed; gives the bytes of that one.
    fn lay(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let mut bytes = self.file.clone();
        change(&mut bytes);
        std::fs::write(self.path(), &bytes).unwrap();
        std::fs::write(copy::path_of(&self.path()), &self.copy).unwrap();
        bytes
    }

    fn expected(&self, lost: &Lost) -> Rows {
        let places = self.all.keys().chain(self.copied.keys());
        let of = |place: &(String, String)| {
            let from = if lost.holds(place) { &self.copied } else { &self.all };
            from.get(place).map(|row| (place.clone(), row.clone()))
        };
        places.filter_map(of).collect()
    }
}

/// What is missing of a damaged file.
struct Lost {
    tokens: Gaps<&'static str>,
    records: Gaps<(&'static str, &'static str)>,
    others: bool,
}

impl Lost {
    fn of(path: &Path) -> Self {
        let Ok(remains) = Remains::open(path) else {
            return Self { tokens: Gaps::all(), records: Gaps::all(), others: true };
        };
        let is_lost = |table: &&str| {
            let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
            !remains.each(table, |_, _, _| {}).is_empty()
        };
        Self {
            tokens: remains.each(table_of::<StoredToken>(), |_, _, _| {}),
            records: remains.each(RECORDS, |_, _, _| {}),
            others: Image::TABLES.iter().chain([&TokenUseRow::TABLE]).any(is_lost)
                || !remains.each(AUDIT, |_, _, _| {}).is_empty(),
        }
    }

    fn holds(&self, (table, key): &(String, String)) -> bool {
        match table.as_str() {
            "tokens" => self.tokens.may_hold(&key.as_str()),
            table => self.records.may_hold(&(table, key.as_str())),
        }
    }

    fn is_nothing(&self) -> bool {
        self.tokens.is_empty() && self.records.is_empty() && !self.others
    }
}

/// One bit, a sector, or a page full of nothing.
fn damage(bytes: &mut [u8], page: usize, kind: usize) {
    let page = &mut bytes[page * PAGE..(page + 1) * PAGE];
    match kind {
        0 => page[40] ^= 4,
        1 => page[..512].fill(0xa5),
        _ => page.fill(0),
    }
}

#[test]
fn a_start_mends_what_cannot_be_read_and_keeps_what_can() {
    let used = Used::new();
    let (path, deleted) = (used.path(), ("tokens".to_owned(), used.deleted.clone()));
    let (mut mended, mut partly) = (0, 0);
    for page in 0..used.file.len() / PAGE {
        let bytes = used.lay(|bytes| damage(bytes, page, page % 3));
        let lost = Lost::of(&path);
        if page > 0 && crate::check(&path, &mut Checked::default()).unwrap() {
            // Nothing is there that anybody would read.
            assert!(lost.is_nothing(), "page {page}");
            continue;
        }
        let control = Control::open_mended(&path, used.options.clone()).unwrap();
        let expected = used.expected(&lost);
        assert!(rows_of(&control) == expected, "page {page}");
        assert!(!expected.contains_key(&deleted), "page {page}");
        assert!(lost.is_nothing() || control.corruptions() > 0, "page {page}");
        if control.corruptions() > 0 {
            mended += 1;
            partly += usize::from(!lost.is_nothing() && expected != used.copied);
            let aside = used.directory.path().join("control.redb.damaged-1");
            assert!(std::fs::read(aside).unwrap() == bytes, "page {page}");
        }
        // It goes on, and neither the file nor its copy has any damage left.
        control.apply(&[record("rules", 1_000, Some(9))]).unwrap();
        control.select_plan(&root(), ProjectId::DEFAULT, crate::Plan::Custom).unwrap();
        control.close();
        drop(control);
        let expected = |control: &Control| {
            let rows = rows_of(control);
            assert_eq!((rows.len(), control.corruptions()), (expected.len() + 1, 0), "page {page}");
            rows
        };
        let from_file = expected(&Control::open_mended(&path, used.options.clone()).unwrap());
        std::fs::remove_file(&path).unwrap();
        let from_copy = Control::open_mended(&path, used.options.clone()).unwrap();
        assert!(rows_of(&from_copy) == from_file, "page {page}");
    }
    assert!(mended > 8 && partly > 4, "{mended} mended, {partly} of them in part");
}

#[test]
fn damage_that_is_met_while_the_file_is_in_use_never_reaches_the_copy() {
    let used = Used::new();
    let path = used.path();
    let mut met = 0;
    for page in 1..used.file.len() / PAGE {
        used.lay(|_| {});
        let control = Control::open_mended(&path, used.options.clone()).unwrap();
        let new = NewToken {
            project: ProjectId::DEFAULT,
            region: Region::FrPar,
            name: "newest".to_owned(),
            scopes: Scopes::NONE,
        };
        // In memory alone, as far as the copy knows.
        control.create_token(&root(), new).unwrap();
        control.apply(&[record("rules", 2_000, Some(9))]).unwrap();
        let before = rows_of(&control);
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.len() <= page * PAGE {
            continue;
        }
        damage(&mut bytes, page, 1);
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&bytes[page * PAGE..(page + 1) * PAGE], (page * PAGE) as u64).unwrap();
        let lost = Lost::of(&path);
        control.renew_copy();
        assert_eq!(control.corruptions() > 0, !lost.is_nothing(), "page {page}");
        met += control.corruptions();
        if lost.is_nothing() {
            continue;
        }
        let now = rows_of(&control);
        for (place, row) in &before {
            let is_known = place.0 == "tokens" || !lost.holds(place);
            assert!(!is_known || now.get(place) == Some(row), "page {page}: {place:?}");
            assert!(now.contains_key(place) || !used.copied.contains_key(place), "page {page}: {place:?}");
        }
        // It takes changes, and they are there afterwards.
        control.apply(&[record("silences", 2_000, Some(9))]).unwrap();
        let now = rows_of(&control);
        control.close();
        drop(control);
        let again = Control::open_mended(&path, used.options.clone()).unwrap();
        assert!(rows_of(&again) == now, "page {page}");
    }
    assert!(met > 8, "{met}");
}

/// Without a copy nothing is lost that somebody could still save by hand.
#[test]
fn without_a_copy_only_a_file_that_lacks_nothing_is_written_anew() {
    let used = Used::new();
    let path = used.path();
    let (mut refused, mut mended) = (0, 0);
    for page in 0..used.file.len() / PAGE {
        used.lay(|bytes| damage(bytes, page, 1));
        std::fs::remove_file(copy::path_of(&path)).unwrap();
        let lost = Lost::of(&path);
        let aside = used.directory.path().join("control.redb.damaged-1");
        match Control::open_mended(&path, used.options.clone()) {
            Err(error) => {
                assert!(error.is_damage() && !aside.exists(), "page {page}: {error}");
                refused += 1;
            }
            Ok(control) if aside.exists() => {
                assert!(lost.is_nothing() && rows_of(&control) == used.all, "page {page}");
                mended += 1;
            }
            Ok(_) => {}
        }
    }
    assert!(refused > 2 && mended > 0, "{refused} refused, {mended} mended");
}
