//! A disk that fails, and whoever comes too late.

use pilothouse_disk::faults::Disk;
use pilothouse_model::{StateChange, StateStore as _};

use super::*;
use crate::{DeclaredSource, RemoteSettings, Scope, SourceKind, SourceLimits, copy};

fn declared(name: &str, kind: SourceKind, remote: &str) -> DeclaredSource {
    DeclaredSource {
        id: (!name.is_empty()).then(|| SourceId::of_text(name)),
        name: name.to_owned(),
        kind,
        retention_days: Some(9),
        limits: SourceLimits::default(),
        remote: Some(RemoteSettings::new(remote)),
    }
}

/// What is said of all sources, and how many changes the audit trail tells.
fn content(control: &Control) -> (String, usize) {
    (format!("{:?}", control.all_sources()), control.audit(None, usize::MAX).map_or(0, |trail| trail.len()))
}

/// Wherever the disk fills up, all that is declared holds or nothing of it, in memory as on the disk.
#[test]
fn declared_sources_hold_all_or_not_at_all_on_a_disk_that_fills_up() {
    let (mut failed, mut done) = (0, 0);
    for room in (0..20).map(|n| n * 8_192) {
        let fixture = Fixture::new();
        let disk = Disk::below(fixture.directory.path());
        let fixture = fixture.reopened();
        let (before, entries) = content(&fixture.control);
        let all: Vec<DeclaredSource> = (0..12)
            .map(|n| declared(&format!("s{n}"), SourceKind::Logs, &"x".repeat(700)))
            .chain([declared("", SourceKind::Metrics, "{}")])
            .collect();
        disk.fill_after(room);
        let made = fixture.control.declare_sources(&all, &fixture.limits);
        disk.fill_after(u64::MAX);
        let after = fixture.control.all_sources();
        let holds = after.len() == all.len() + 2;
        assert!(holds || format!("{after:?}") == before, "{room}");
        match &made {
            // It may have come far enough all the same.
            Err(error) => assert!(error.is_storage(), "{error}"),
            Ok(changed) => assert!(holds && changed.len() == all.len(), "{room}"),
        }
        failed += usize::from(!holds);
        done += usize::from(holds);
        let fixture = fixture.reopened();
        let (now, told) = content(&fixture.control);
        assert_eq!(now, format!("{after:?}"), "{room}");
        assert_eq!(told, entries + if holds { all.len() } else { 0 }, "{room}");
        // The disk is well again.
        fixture.control.declare_sources(&all, &fixture.limits).unwrap();
        assert_eq!(fixture.control.all_sources().len(), all.len() + 2);
    }
    assert!(failed > 3 && done > 3, "{failed} failed, {done} done");
}

/// A write that fails opens the file again, but not one that was closed meanwhile.
#[test]
fn who_comes_after_the_end_changes_nothing_and_opens_nothing() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join(FILE);
    let (kept, _) = fixture.token("kept", Scopes::from_iter([Scope::ReadLogs]));
    fixture.control.close();
    let files = || (std::fs::read(&path).unwrap(), std::fs::read(copy::path_of(&path)).unwrap());
    let before = files();
    let late = |control: &Control| {
        let record = StateChange { table: "rules", key: "k".to_owned(), value: Some(vec![1]) };
        let gone = StateChange { table: "synthetic_tokens", key: "k".to_owned(), value: None };
        assert!(control.delete_token(&root(), Region::FrPar, kept.id).is_err());
        assert!(control.apply(&[record]).is_err() && control.apply(&[gone]).is_err());
        assert!(control.load("rules").is_err() && control.audit(None, 1).is_err());
        assert!(control.standing_still(|| ()).is_err());
        let default = control.default_source(SourceKind::Logs).unwrap();
        control.count_use(&default, None, crate::Amounts { bytes: 1, ..Default::default() });
        assert!(control.save_usage().is_err());
        control.close();
    };
    late(&fixture.control);
    assert!(files() == before);
    // Nor is it in the way of the next one, nor does it write over what that one has written.
    let next = Control::open(&path, fixture.options()).unwrap();
    next.select_plan(&root(), ProjectId::DEFAULT, crate::Plan::Custom).unwrap();
    next.save_usage().unwrap();
    let before = files();
    late(&fixture.control);
    assert!(files() == before);
    next.select_plan(&root(), ProjectId::DEFAULT, crate::Plan::Free).unwrap();
}

/// A disk that will not give a page is no reason to believe that it is damaged.
#[test]
fn a_copy_is_not_written_from_what_cannot_be_read() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join(FILE);
    let disk = Disk::below(fixture.directory.path());
    let fixture = fixture.reopened();
    fixture.token("one", Scopes::NONE);
    fixture.control.renew_copy();
    let before = std::fs::read(copy::path_of(&path)).unwrap();
    fixture.token("two", Scopes::NONE);
    disk.fail_reads(true);
    fixture.control.renew_copy();
    disk.fail_reads(false);
    assert!(std::fs::read(copy::path_of(&path)).unwrap() == before);
    assert_eq!(fixture.control.corruptions(), 0);
    fixture.control.renew_copy();
    assert_eq!(copy::read(&path).unwrap().unwrap().iter().filter(|row| row.table == "tokens").count(), 2);
}
