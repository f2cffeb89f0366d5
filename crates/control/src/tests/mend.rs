//! What a mend leaves alone: what another release wrote, a copy that is all there is, and figures in memory.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use pilothouse_disk::files;
use pilothouse_disk::remains::Remains;
use pilothouse_model::StateStore as _;

use super::*;
use crate::control::table_of;
use crate::row::{self, Key as _, Row};
use crate::token::{StoredToken, TokenUseRow};
use crate::usage::{Amounts, UsageQuery, UsageRow};
use crate::{Scope, SourceKind, copy};

const PAGE: usize = 4096;

fn path_of(fixture: &Fixture) -> PathBuf {
    fixture.directory.path().join(FILE)
}

fn names(fixture: &tempfile::TempDir) -> Vec<String> {
    files::file_names(fixture.path()).unwrap()
}

/// A closed directory with some tokens in it.
fn closed(change: impl FnOnce(&Fixture)) -> (tempfile::TempDir, Options, PathBuf) {
    let fixture = Fixture::new();
    for i in 0..40 {
        fixture.token(&format!("token-{i}"), Scopes::from_iter([Scope::ReadLogs]));
    }
    change(&fixture);
    fixture.control.renew_copy();
    let (options, path) = (fixture.options(), path_of(&fixture));
    let Fixture { directory, control, .. } = fixture;
    drop(control);
    (directory, options, path)
}

/// Gives one of the tokens' rows other bytes.
fn rewrite(fixture: &Fixture, change: impl Fn(&mut Vec<u8>)) {
    let control = &fixture.control;
    let image = control.image();
    let token = image.tokens.values().next().unwrap();
    let mut bytes = row::encode(&**token);
    change(&mut bytes);
    let written = control.transact(&[], |transaction| {
        let mut table = transaction.open_table(table_of::<StoredToken>()).unwrap();
        table.insert(token.id.text().as_str(), bytes.as_slice()).unwrap();
        Ok(())
    });
    written.unwrap();
}

fn of_a_later_version(bytes: &mut [u8]) {
    bytes[0] = 2;
}

fn of_an_unknown_region(bytes: &mut [u8]) {
    let at = bytes.windows(6).position(|word| word == b"fr-par").unwrap();
    bytes[at..at + 6].copy_from_slice(b"es-mad");
}

/// A page whose loss is one of this table's rows.
fn page_of<R: Row>(path: &Path) -> usize {
    let whole = std::fs::read(path).unwrap();
    let is_of_table = |page: &usize| {
        let mut bytes = whole.clone();
        bytes[page * PAGE + 40] ^= 4;
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(FILE);
        std::fs::write(&path, bytes).unwrap();
        let Ok(remains) = Remains::open(&path) else { return false };
        let others = table_of::<crate::project::Project>();
        !remains.each(table_of::<R>(), |_, _, _| {}).is_empty()
            && remains.each(others, |_, _, _| {}).is_empty()
    };
    (1..whole.len() / PAGE).find(is_of_table).unwrap()
}

fn spoil(path: &Path, page: usize) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (mut byte, at) = ([0], (page * PAGE + 40) as u64);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

#[test]
fn what_another_release_wrote_stops_the_start_and_stays() {
    let changes: [fn(&mut [u8]); 2] = [of_a_later_version, of_an_unknown_region];
    for change in changes {
        for damaged in ["nothing", "a page", "the file"] {
            let (directory, options, path) = closed(|fixture| rewrite(fixture, |bytes| change(bytes)));
            match damaged {
                "a page" => spoil(&path, page_of::<DataSource>(&path)),
                "the file" => std::fs::remove_file(&path).unwrap(),
                _ => {}
            }
            let all = |path: &Path| (std::fs::read(path).ok(), std::fs::read(copy::path_of(path)).unwrap());
            let before = all(&path);
            let error = Control::open_mended(&path, options).unwrap_err();
            assert!(error.is_unknown() && !error.is_damage(), "{damaged}: {error}");
            let text = error.to_string();
            assert!(text.contains("table tokens, row ") && text.contains("Another release"), "{text}");
            assert!(all(&path).1 == before.1, "{damaged}: the copy");
            if damaged != "nothing" {
                assert!(all(&path).0 == before.0, "{damaged}: the file");
                assert!(crate::salvage(&path).unwrap_err().is_unknown(), "{damaged}");
            }
            assert!(names(&directory).iter().all(|name| !name.contains(".damaged-")), "{damaged}");
        }
    }
}

#[test]
fn a_row_that_no_release_has_written_comes_from_the_copy() {
    let (directory, options, path) = closed(|_| {});
    let good = std::fs::read(copy::path_of(&path)).unwrap();
    let control = Control::open(&path, options.clone()).unwrap();
    let fixture = Fixture {
        directory,
        control,
        clock: Arc::new(Stepped(AtomicI64::new(0))),
        limits: Limits::default(),
    };
    let image = fixture.control.image();
    rewrite(&fixture, |bytes| bytes.truncate(bytes.len() - 1));
    let Fixture { directory: _directory, control, .. } = fixture;
    drop(control);
    std::fs::write(copy::path_of(&path), good).unwrap();
    let control = Control::open_mended(&path, options).unwrap();
    assert!(control.image().same_rows(&image) && control.corruptions() > 0);
}

#[test]
fn a_copy_that_is_the_last_thing_left_is_never_written_over() {
    let spoils: [fn(&mut Vec<u8>); 4] =
        [|_| {}, |bytes| bytes.truncate(bytes.len() - 300), |bytes| bytes[3] ^= 1, |bytes| bytes.clear()];
    for (case, spoil) in spoils.into_iter().enumerate() {
        for is_empty in [false, true] {
            let (directory, options, path) = closed(|_| {});
            let mut copy = std::fs::read(copy::path_of(&path)).unwrap();
            spoil(&mut copy);
            std::fs::write(copy::path_of(&path), &copy).unwrap();
            match is_empty {
                true => std::fs::write(&path, b"").unwrap(),
                false => std::fs::remove_file(&path).unwrap(),
            }
            let mut refusals = vec![Control::open(&path, options.clone()).unwrap_err()];
            if case > 0 {
                refusals.push(Control::open_mended(&path, options.clone()).unwrap_err());
            }
            for error in refusals {
                assert!(error.is_damage(), "{case}: {error}");
                assert!(error.to_string().contains("gone or empty, and beside it there is still"), "{error}");
            }
            assert!(files::is_absent_or_empty(&path).unwrap(), "{case}");
            assert!(std::fs::read(copy::path_of(&path)).unwrap() == copy, "{case}");
            // What decodes of it is taken over when that is asked for, and the damaged one stays.
            let saved = crate::salvage(&path).unwrap();
            let tokens = Control::open_mended(&path, options).unwrap().image().tokens.len();
            assert!(case == 3 || (saved.rows > 40 && tokens > 30), "{case}: {saved:?}, {tokens} tokens");
            let is_aside = names(&directory).iter().any(|name| name == "control.copy.damaged-1");
            assert_eq!(is_aside, case > 0, "{case}");
        }
    }
}

#[test]
fn a_copy_that_the_disk_does_not_give_is_not_taken_for_none() {
    let (_directory, options, path) = closed(|_| {});
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(copy::path_of(&path)).unwrap();
    // Nothing that can be read as a file.
    std::fs::create_dir(copy::path_of(&path)).unwrap();
    Control::open_mended(&path, options).unwrap_err();
    assert!(!path.exists());
}

#[test]
fn what_is_deleted_is_in_no_copy_that_is_read_again() {
    let fixture = Fixture::new();
    let path = path_of(&fixture);
    let gone = fixture.token("gone", Scopes::from_iter([Scope::ReadLogs])).0;
    fixture.control.renew_copy();
    let mut copy = std::fs::read(copy::path_of(&path)).unwrap();
    *copy.last_mut().unwrap() ^= 1;
    std::fs::write(copy::path_of(&path), copy).unwrap();
    fixture.control.delete_token(&root(), Region::FrPar, gone.id).unwrap();
    assert!(copy::read(&path).unwrap().is_none());
    assert!(names(&fixture.directory).contains(&"control.copy.damaged-1".to_owned()));
    fixture.control.renew_copy();
    assert!(copy::has_copy(&path));
}

#[test]
fn readers_that_meet_one_damage_mend_it_once() {
    const READERS: usize = 6;
    let fixture = Fixture::new();
    let control = &fixture.control;
    let all_failed = Barrier::new(READERS);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let is_first = std::cell::Cell::new(true);
                let read = control.reading(|_| {
                    if is_first.replace(false) {
                        all_failed.wait();
                    } else if control.corruptions() > 0 {
                        return Ok(());
                    }
                    let damage = redb::Error::Corrupted("a page".to_owned());
                    Err(control.fault(damage))
                });
                read.unwrap();
            });
        }
    });
    assert_eq!((control.corruptions(), control.writer().mends), (1, 1));
    assert_eq!(names(&fixture.directory).iter().filter(|name| name.contains(".damaged-")).count(), 1);
}

#[test]
fn a_mend_while_running_loses_no_sums() {
    let fixture = Fixture::new();
    let (control, path) = (&fixture.control, path_of(&fixture));
    let (_, secret) = fixture.token("used", Scopes::from_iter([Scope::WriteMetrics]));
    let grant = control.grant(&secret).unwrap();
    let sources = control.image().sources.clone();
    let source = sources.values().find(|source| source.kind == SourceKind::Metrics).unwrap();
    let count = |samples| {
        let amounts = Amounts { samples, ..Amounts::default() };
        control.count_use(source, Some(&grant), amounts);
        grant.used(control.now_ms());
        control.save_usage().unwrap();
    };
    count(3);
    let old_copy = std::fs::read(copy::path_of(&path)).unwrap();
    count(4);
    // What the file and its copy have of the sums is less than what memory has.
    std::fs::write(copy::path_of(&path), old_copy).unwrap();
    for page in [page_of::<UsageRow>(&path), page_of::<TokenUseRow>(&path)] {
        spoil(&path, page);
    }
    let damage = control.fault(redb::Error::Corrupted("a page".to_owned()));
    assert!(control.mend(&mut control.writer(), &damage));
    control.save_usage().unwrap();
    control.close();
    let query = UsageQuery { project: None, source: None, kind: SourceKind::Metrics, since_ms: 0 };
    let (sum, total) = (control.usage_of(&query), grant.total_use());
    assert_eq!((sum.samples, total.stored.samples), (7, 7));
    let again = fixture.reopened();
    assert_eq!(again.control.usage_of(&query), sum);
    let grant = again.control.grant(&secret).unwrap();
    // To ask for it is one more use.
    let requests = total.requests + 1;
    assert_eq!(grant.total_use(), crate::TokenUse { requests, ..total });
    assert!(again.control.load("rules").unwrap().is_empty());
}
