//! Of a damaged file all is saved that can be read, and nothing is made up.

use std::path::Path;

use pilothouse_disk::check::Checked;
use pilothouse_model::{StateChange, StateStore as _};

use super::*;
use crate::copy;
use crate::{NewSource, Scope, SourceKind, SourceLimits};

const TOKENS: usize = 60;

/// A file with many rows, closed; the names of its tokens.
fn filled() -> (tempfile::TempDir, Options) {
    let fixture = Fixture::new();
    for i in 0..TOKENS {
        fixture.token(&format!("token-{i}"), Scopes::from_iter([Scope::ReadLogs]));
        let new = NewSource {
            project: ProjectId::random(),
            region: Region::FrPar,
            name: format!("source-{i}"),
            kind: SourceKind::Logs,
            retention_days: None,
            limits: SourceLimits::default(),
            remote: None,
        };
        fixture.control.create_source(&root(), new).unwrap();
        let record = |table: &'static str| StateChange {
            table,
            key: format!("key-{i}"),
            value: Some(vec![i as u8; 200]),
        };
        fixture.control.apply(&[record("rules"), record("silences")]).unwrap();
    }
    let options = fixture.options();
    let Fixture { directory, control, .. } = fixture;
    drop(control);
    (directory, options)
}

fn is_whole(path: &Path) -> bool {
    let mut checked = Checked::default();
    crate::check(path, &mut checked).unwrap()
}

/// Numbers of tokens, sources besides the default ones, and records.
fn counts(control: &Control) -> [usize; 3] {
    let image = control.image();
    let tokens = image.tokens.len();
    let sources = image.sources.values().filter(|s| s.name.starts_with("source-")).count();
    let records = control.load("rules").unwrap().len() + control.load("silences").unwrap().len();
    [tokens, sources, records]
}

#[test]
fn all_of_a_whole_file_is_taken_over() {
    let (dir, options) = filled();
    let path = dir.path().join(FILE);
    let before = Control::open(&path, options.clone()).unwrap();
    let (image, audit) = (before.image(), before.audit(None, usize::MAX).unwrap());
    drop(before);
    let saved = crate::salvage(&path).unwrap();
    assert!(saved.incomplete.is_empty() && saved.aside.exists(), "{saved:?}");
    let after = Control::open(&path, options).unwrap();
    assert!(image.same_rows(&after.image()));
    assert_eq!(after.audit(None, usize::MAX).unwrap(), audit);
    assert_eq!(counts(&after), [TOKENS, TOKENS, 2 * TOKENS]);
}

#[test]
fn a_damaged_page_takes_its_own_rows_and_no_others() {
    let (dir, options) = filled();
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    let (mut repaired, mut kept) = (0, 0);
    for page in (1..whole.len() / 4096).filter(|page| page % 4 == 0) {
        let mut bytes = whole.clone();
        let place = &mut bytes[page * 4096..page * 4096 + 200];
        if place.iter().all(|byte| *byte == 0) {
            continue;
        }
        place.fill(0xff);
        std::fs::write(&path, &bytes).unwrap();
        // From the file alone.
        pilothouse_disk::files::remove(&copy::path_of(&path)).unwrap();
        if is_whole(&path) {
            continue;
        }
        let saved = crate::salvage(&path).unwrap();
        assert_eq!(std::fs::read(&saved.aside).unwrap(), bytes, "page {page}");
        let control = Control::open(&path, options.clone()).unwrap();
        let found = counts(&control);
        repaired += 1;
        kept += found.iter().sum::<usize>();
        let lost = found.iter().sum::<usize>() < 4 * TOKENS;
        assert!(!lost || saved.rows == 0 || !saved.incomplete.is_empty(), "page {page}: {found:?} {saved:?}");
        // It goes on.
        drop(control);
        assert!(is_whole(&path), "page {page}");
        std::fs::remove_file(&saved.aside).unwrap();
    }
    assert!(repaired > 3 && kept > repaired * 2 * TOKENS, "{repaired} files, {kept} rows");
}

#[test]
fn a_file_of_which_nothing_is_left_is_set_aside() {
    let (dir, options) = filled();
    let path = dir.path().join(FILE);
    std::fs::write(&path, vec![0x5a; 10_000]).unwrap();
    pilothouse_disk::files::remove(&copy::path_of(&path)).unwrap();
    let error = Control::open(&path, options.clone()).unwrap_err();
    assert!(error.is_damage(), "{error}");
    let saved = crate::salvage(&path).unwrap();
    assert_eq!((saved.rows, path.exists(), saved.aside.exists()), (0, false, true));
    assert_eq!(counts(&Control::open(&path, options).unwrap()), [0, 0, 0]);
}

#[test]
fn the_copy_has_what_the_file_no_longer_tells() {
    let (dir, options) = filled();
    let path = dir.path().join(FILE);
    let before = Control::open(&path, options.clone()).unwrap();
    let (image, last) = (before.image(), before.audit(None, 1).unwrap());
    let big = StateChange { table: "large", key: "x".to_owned(), value: Some(vec![1; 17 << 20]) };
    before.apply(&[big]).unwrap();
    before.close();
    drop(before);
    let whole = std::fs::read(&path).unwrap();
    // The header, then a page in the middle: of the one nothing is left, of the other something.
    for (at, length) in [(0, 4096), (whole.len() / 8, 4096)] {
        let mut bytes = whole.clone();
        bytes[at..at + length].fill(0xff);
        std::fs::write(&path, &bytes).unwrap();
        if is_whole(&path) {
            continue;
        }
        let saved = crate::salvage(&path).unwrap();
        let after = Control::open(&path, options.clone()).unwrap();
        assert!(image.same_rows(&after.image()), "{at}: {saved:?}");
        assert_eq!(counts(&after), [TOKENS, TOKENS, 2 * TOKENS], "{at}");
        assert_eq!(after.audit(None, 1).unwrap(), last, "{at}");
        // What is too large for the copy is lost with the file.
        assert!(at > 0 || after.load("large").unwrap().is_empty());
        std::fs::remove_file(&saved.aside).unwrap();
    }
}

#[test]
fn a_copy_knows_nothing_that_was_deleted() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join(FILE);
    let has = |name: &str| {
        let rows = copy::read(&path).unwrap().unwrap();
        rows.iter()
            .any(|row| row.table == "tokens" && row.value.windows(name.len()).any(|w| w == name.as_bytes()))
    };
    let gone = fixture.token("gone", Scopes::from_iter([Scope::ReadLogs]));
    fixture.token("stays", Scopes::from_iter([Scope::ReadLogs]));
    assert!(!has("gone"), "not written yet");
    fixture.control.save_usage().unwrap();
    assert!(has("gone") && has("stays"));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&copy::path_of(&path).metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    fixture.control.delete_token(&root(), Region::FrPar, gone.0.id).unwrap();
    assert!(!has("gone") && has("stays"));
}

#[test]
fn what_is_missing_or_empty_is_made_from_the_copy() {
    let (dir, options) = filled();
    let path = dir.path().join(FILE);
    let before = Control::open(&path, options.clone()).unwrap();
    let image = before.image();
    before.close();
    drop(before);
    for is_missing in [true, false] {
        std::fs::remove_file(&path).unwrap();
        if !is_missing {
            std::fs::write(&path, b"").unwrap();
        }
        crate::salvage(&path).unwrap();
        let after = Control::open(&path, options.clone()).unwrap();
        assert!(image.same_rows(&after.image()), "{is_missing}");
    }
}

#[test]
fn a_record_that_let_somebody_in_goes_from_the_copy_at_once() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join(FILE);
    let has = |table: &str| copy::read(&path).unwrap().unwrap().iter().any(|row| row.table == table);
    let record = |table, value| StateChange { table, key: "k".to_owned(), value };
    for table in ["synthetic_tokens", "rules"] {
        fixture.control.apply(&[record(table, Some(vec![1]))]).unwrap();
    }
    fixture.control.renew_copy();
    for table in ["synthetic_tokens", "rules"] {
        fixture.control.apply(&[record(table, None)]).unwrap();
    }
    assert!(!has("synthetic_tokens") && has("rules"));
    fixture.control.renew_copy();
    assert!(!has("rules"));
}
