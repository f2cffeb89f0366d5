//! What holds for tokens, sources, usage and the audit trail, one thing a test.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use pilothouse_model::limits::Limits;

use super::{Fixture, root};
use crate::{
    Amounts, DataSource, DeclaredSource, Error, NewSource, NewToken, ProjectId, Region, Scope, Scopes,
    SourceChange, SourceFilter, SourceId, SourceKind, SourceLimits, TokenFilter, UsageQuery,
};

const HOUR_MS: i64 = 3_600_000;

fn source(project: ProjectId, kind: SourceKind) -> NewSource {
    NewSource {
        project,
        region: Region::FrPar,
        name: "s".to_owned(),
        kind,
        retention_days: None,
        limits: SourceLimits::default(),
        remote: None,
    }
}

#[test]
fn no_secret_is_in_the_file() {
    let fixture = Fixture::new();
    let (_, secret) = fixture.token("t", Scopes::NONE);
    assert!(secret.len() >= 32 && secret.bytes().all(|b| b.is_ascii_hexdigit()));
    let bytes = std::fs::read(fixture.directory.path().join(super::FILE)).unwrap();
    assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
    assert!(!format!("{:?}", fixture.control.image()).contains(&secret));
}

#[test]
fn an_open_connection_learns_that_its_token_is_gone() {
    let fixture = Fixture::new();
    let (token, secret) = fixture.token("t", Scopes::NONE);
    let grant = fixture.control.grant(&secret).unwrap();
    // Changes of others leave it alone.
    fixture.token("other", Scopes::NONE);
    assert!(Arc::ptr_eq(&grant, &fixture.control.grant(&secret).unwrap()) && !grant.is_revoked());
    fixture.control.delete_token(&root(), Region::FrPar, token.id).unwrap();
    assert!(grant.is_revoked() && fixture.control.grant(&secret).is_none());
}

#[test]
fn an_object_is_seen_in_its_region_alone() {
    let fixture = Fixture::new();
    let (token, _) = fixture.token("t", Scopes::NONE);
    assert!(fixture.control.token(Region::NlAms, token.id).is_err());
    assert!(fixture.control.delete_token(&root(), Region::NlAms, token.id).is_err());
    let filter = TokenFilter { region: Region::PlWaw, ..TokenFilter::default() };
    assert_eq!(fixture.control.tokens(&filter).total, 0);
    assert_eq!(fixture.control.token(Region::FrPar, token.id).unwrap(), token);
}

#[test]
fn the_default_sources_are_there_once_and_stay() {
    let fixture = Fixture::new().reopened();
    let listed = fixture.control.sources(&SourceFilter::default());
    assert_eq!(listed.items.iter().map(|s| s.kind.as_str()).collect::<Vec<_>>(), ["metrics", "logs"]);
    let internal = fixture.control.internal_source().unwrap();
    assert_eq!((internal.name.as_str(), internal.kind), ("pilothouse", SourceKind::Logs));
    for source in fixture.control.all_sources() {
        let refused = fixture.control.delete_source(&root(), source.region, source.id);
        assert!(matches!(refused, Err(Error::InUse { .. })), "{}", source.name);
    }
    let directories = fixture.control.all_sources().into_iter().map(|s| (s.kind, s.directory()));
    assert_eq!(directories.collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[test]
fn only_what_is_said_of_a_source_changes() {
    let fixture = Fixture::new();
    let made =
        fixture.control.create_source(&root(), source(ProjectId::DEFAULT, SourceKind::Metrics)).unwrap();
    fixture.clock.0.fetch_add(5, Relaxed);
    let change = SourceChange { max_active_series: Some(Some(7)), ..SourceChange::default() };
    let changed = fixture.update(made.id, change).unwrap();
    assert_eq!((&changed.name, changed.own_retention_days), (&made.name, None));
    assert_eq!(changed.limits.max_active_series, Some(7));
    assert_eq!(changed.stamp.updated_ms, made.stamp.updated_ms + 5);
    for days in [0, 1826] {
        let change = SourceChange { retention_days: Some(days), ..SourceChange::default() };
        assert!(fixture.update(made.id, change).is_err(), "{days}");
    }
    assert_eq!(fixture.control.source(made.id), Some(changed));
}

#[test]
fn changes_that_go_by_what_there_is_do_not_undo_each_other() {
    const THREADS: u64 = 8;
    const CHANGES: u64 = 5;
    let fixture = Fixture::new();
    let made =
        fixture.control.create_source(&root(), source(ProjectId::DEFAULT, SourceKind::Metrics)).unwrap();
    let more = |now: &DataSource| -> Result<SourceChange, Error> {
        // Long enough for the others to come between, if they could.
        std::thread::yield_now();
        let more = now.limits.max_active_series.unwrap_or(0) + 1;
        Ok(SourceChange { max_active_series: Some(Some(more)), ..SourceChange::default() })
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CHANGES {
                    fixture.control.update_source(&root(), Region::FrPar, made.id, more).unwrap();
                }
            });
        }
    });
    let counted = |fixture: &Fixture| fixture.control.source(made.id).unwrap().limits.max_active_series;
    assert_eq!(counted(&fixture), Some(THREADS * CHANGES));
    assert_eq!(counted(&fixture.reopened()), Some(THREADS * CHANGES));
}

#[test]
fn where_another_system_keeps_the_data_is_remembered_and_not_told() {
    let fixture = Fixture::new();
    let settings = crate::RemoteSettings::new(r#"{"password":"hush"}"#);
    let new = NewSource { remote: Some(settings.clone()), ..source(ProjectId::DEFAULT, SourceKind::Logs) };
    let made = fixture.control.create_source(&root(), new).unwrap();
    let traces =
        NewSource { remote: Some(settings.clone()), ..source(ProjectId::DEFAULT, SourceKind::Traces) };
    assert!(fixture.control.create_source(&root(), traces).is_err());
    let internal = fixture.control.internal_source().unwrap().id;
    let change = SourceChange { remote: Some(Some(settings.clone())), ..SourceChange::default() };
    assert!(fixture.update(internal, change).is_err());

    let fixture = fixture.reopened();
    assert_eq!(fixture.control.remote_of(made.id), Some(settings));
    let trail = fixture.control.audit(None, 1).unwrap();
    assert!(trail[0].details.contains(&("backend".to_owned(), "remote".to_owned())));
    assert!(!format!("{made:?}{trail:?}").contains("hush"));
    let back = SourceChange { remote: Some(None), ..SourceChange::default() };
    fixture.update(made.id, back).unwrap();
    assert_eq!(fixture.reopened().control.remote_of(made.id), None);
}

fn declared(id: Option<&str>, name: &str, kind: SourceKind) -> DeclaredSource {
    DeclaredSource {
        id: id.map(SourceId::of_text),
        name: name.to_owned(),
        kind,
        retention_days: None,
        limits: SourceLimits::default(),
        remote: None,
    }
}

fn declare(fixture: &Fixture, sources: &[DeclaredSource]) -> Result<Vec<DataSource>, Error> {
    fixture.control.declare_sources(sources, &fixture.limits)
}

#[test]
fn declared_sources_are_as_the_configuration_says_and_nobody_else_changes_them() {
    let fixture = Fixture::new();
    let there = || Some(crate::RemoteSettings::new("{}"));
    let mut shop = declared(Some("shop"), "shop", SourceKind::Metrics);
    let main = DeclaredSource { remote: there(), ..declared(None, "", SourceKind::Logs) };
    let all = [shop.clone(), main];
    let changed = declare(&fixture, &all).unwrap();
    assert_eq!(changed.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["shop", "Logs"]);
    let id = changed[0].id;
    assert_eq!((id, changed[0].stamp.number > 0), (SourceId::of_text("shop"), true));
    assert!(fixture.control.default_source(SourceKind::Logs).unwrap().remote.is_some());
    // Said again as before, nothing is written, after a restart neither.
    let fixture = fixture.reopened();
    let trail = fixture.control.audit(None, 1).unwrap();
    assert_eq!(declare(&fixture, &all).unwrap(), []);
    assert_eq!(fixture.control.audit(None, 1).unwrap(), trail);

    let rename = || SourceChange { name: Some("other".to_owned()), ..SourceChange::default() };
    for id in changed.iter().map(|source| source.id) {
        let refused = fixture.update(id, rename());
        assert!(matches!(refused, Err(Error::InUse { help: "the configuration declares it", .. })));
        assert!(matches!(
            fixture.control.delete_source(&root(), Region::FrPar, id),
            Err(Error::InUse { .. })
        ));
    }
    // What is left out has its default again.
    shop.retention_days = Some(7);
    declare(&fixture, &[shop.clone(), all[1].clone()]).unwrap();
    assert_eq!(fixture.control.source(id).unwrap().own_retention_days, Some(7));
    declare(&fixture, &all).unwrap();
    assert_eq!(fixture.control.source(id).unwrap().own_retention_days, None);

    // Declared no more, it stays, and the default one is as at first.
    let released = declare(&fixture, &[]).unwrap();
    assert_eq!(released.len(), 2);
    assert_eq!(fixture.control.default_source(SourceKind::Logs).unwrap().remote, None);
    fixture.update(id, rename()).unwrap();
    // And may be declared anew, deleted ones once nothing of them is left.
    assert_eq!(declare(&fixture, &[shop.clone()]).unwrap()[0].name, "shop");
    declare(&fixture, &[]).unwrap();
    fixture.control.delete_source(&root(), Region::FrPar, id).unwrap();
    let refused = declare(&fixture, &[shop.clone()]).unwrap_err().to_string();
    assert!(refused.contains("is not removed yet"), "{refused}");
    fixture.control.removed(id).unwrap();
    assert_eq!(declare(&fixture, &[shop]).unwrap()[0].id, id);
}

#[test]
fn declarations_that_do_not_hold_change_nothing() {
    let fixture = Fixture::with(Limits { max_data_sources: 4, ..Limits::default() });
    let metrics = |id: &str| declared(Some(id), id, SourceKind::Metrics);
    let own = fixture.control.create_source(&root(), source(ProjectId::DEFAULT, SourceKind::Logs)).unwrap();
    let of_id = |id: SourceId| DeclaredSource { id: Some(id), ..metrics("x") };
    let default = fixture.control.default_source(SourceKind::Metrics).unwrap();
    let internal = fixture.control.internal_source().unwrap();
    for (all, expected) in [
        (vec![metrics("a"), metrics("a")], "a of metrics: is declared twice"),
        (vec![metrics("a")], "there are 4 of 4 of data_source already"),
        (vec![of_id(own.id)], "its id is that of a source of logs"),
        (vec![of_id(default.id)], "that of a source that is always there"),
        (vec![of_id(internal.id)], "that of a source that is always there"),
        (vec![declared(Some("t"), "t", SourceKind::Traces)], "metrics and logs alone"),
        (vec![declared(Some("n"), " ", SourceKind::Logs)], "data_sources.name"),
        (vec![DeclaredSource { retention_days: Some(0), ..metrics("a") }], "1 to 1825 days"),
    ] {
        let refused = fixture.control.may_declare_sources(&all, &fixture.limits).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        assert_eq!(declare(&fixture, &all).unwrap_err().to_string(), refused);
        assert_eq!(fixture.control.all_sources().len(), 4);
    }
}

#[test]
fn the_data_of_a_deleted_source_is_owed_until_it_is_gone() {
    let fixture = Fixture::new();
    let made = fixture.control.create_source(&root(), source(ProjectId::DEFAULT, SourceKind::Logs)).unwrap();
    fixture.control.delete_source(&root(), Region::FrPar, made.id).unwrap();
    let fixture = fixture.reopened();
    let removals = fixture.control.removals();
    assert_eq!(
        removals.iter().map(|r| (r.source, r.kind)).collect::<Vec<_>>(),
        [(made.id, SourceKind::Logs)]
    );
    fixture.control.removed(made.id).unwrap();
    assert_eq!(fixture.reopened().control.removals(), []);
}

#[test]
fn quotas_hold() {
    let fixture = Fixture::with(Limits { max_tokens: 1, max_grafana_users: 0, ..Limits::default() });
    fixture.token("one", Scopes::NONE);
    let new = NewToken {
        project: ProjectId::DEFAULT,
        region: Region::FrPar,
        name: "two".to_owned(),
        scopes: Scopes::NONE,
    };
    let refused = fixture.control.create_token(&root(), new);
    assert!(matches!(refused, Err(Error::Quota { quota: 1, current: 1, .. })));
    let user =
        fixture.control.create_grafana_user(&root(), ProjectId::DEFAULT, "a", crate::GrafanaRole::Editor);
    assert!(matches!(user, Err(Error::Quota { .. })));
}

#[test]
fn the_audit_trail_tells_who_what_and_when_and_forgets_the_oldest() {
    let fixture = Fixture::with(Limits { max_audit_entries: 5, ..Limits::default() });
    let seen = Arc::new(Mutex::new(Vec::new()));
    fixture.control.watch({
        let seen = Arc::clone(&seen);
        move |entry| seen.lock().push(entry.number)
    });
    let (token, _) = fixture.token("t", Scopes::from_iter([Scope::ReadLogs]));
    let by = crate::Actor::root(Some("10.1.2.3".parse().unwrap()));
    fixture.control.delete_token(&by, Region::FrPar, token.id).unwrap();
    let trail = fixture.control.audit(None, 2).unwrap();
    let told =
        |e: &crate::AuditEntry| (e.actor.clone(), e.address.clone(), e.action.clone(), e.id.clone(), e.at_ms);
    let (id, now) = (token.id.to_string(), 1_700_000_000_000);
    assert_eq!(told(&trail[0]), ("root".into(), Some("10.1.2.3".into()), "delete".into(), id.clone(), now));
    assert_eq!(told(&trail[1]), ("root".into(), None, "create".into(), id, now));
    assert!(trail[1].details.contains(&("scopes".to_owned(), "read_only_logs".to_owned())));
    for i in 0..10 {
        fixture.token(&format!("t{i}"), Scopes::NONE);
    }
    let numbers: Vec<u64> = fixture.control.audit(None, 100).unwrap().iter().map(|e| e.number).collect();
    let newest = seen.lock().last().copied().unwrap();
    assert_eq!(numbers, (newest - 5..=newest).rev().collect::<Vec<_>>());
    // Numbers go on after a restart.
    let fixture = fixture.reopened();
    fixture.token("more", Scopes::NONE);
    assert_eq!(fixture.control.audit(None, 1).unwrap()[0].number, newest + 1);
}

#[test]
fn usage_counts_for_the_project_of_the_caller_and_of_the_source() {
    let fixture = Fixture::new();
    let (own, other) = (ProjectId::random(), ProjectId::random());
    let made = fixture.control.create_source(&root(), source(own, SourceKind::Metrics)).unwrap();
    let shared = fixture.control.default_source(SourceKind::Metrics).unwrap();
    let new = NewToken { project: other, region: Region::FrPar, name: "t".to_owned(), scopes: Scopes::NONE };
    let (token, secret) = fixture.control.create_token(&root(), new).unwrap();
    let grant = fixture.control.grant(secret.reveal()).unwrap();
    let amounts = |samples| Amounts { samples, bytes: 10 * samples, ..Amounts::default() };
    fixture.control.count_use(&made, None, amounts(1));
    fixture.control.count_use(&shared, Some(&grant), amounts(2));
    fixture.control.count_use(&shared, None, amounts(4));
    let check = |fixture: &Fixture, expected: [u64; 4]| {
        let of = |project| {
            let kind = SourceKind::Metrics;
            let query = UsageQuery { project, source: None, kind, since_ms: 1_700_000_000_000 - HOUR_MS };
            fixture.control.usage_of(&query).samples
        };
        let got = [of(Some(own)), of(Some(other)), of(Some(ProjectId::DEFAULT)), of(None)];
        assert_eq!(got, expected);
    };
    check(&fixture, [1, 2, 6, 7]);
    fixture.control.save_usage().unwrap();
    let fixture = fixture.reopened();
    check(&fixture, [1, 2, 6, 7]);
    let uses = fixture.control.token_uses();
    assert_eq!(
        uses.iter().map(|(t, u)| (t.id, u.stored.samples, u.requests)).collect::<Vec<_>>(),
        [(token.id, 2, 1)]
    );
}

#[test]
fn old_hours_become_days_and_go_in_the_end() {
    let fixture = Fixture::new();
    let shared = fixture.control.default_source(SourceKind::Metrics).unwrap();
    let start = 1_700_000_000_000;
    for _ in 0..200 {
        fixture.control.count_use(&shared, None, Amounts { samples: 1, bytes: 1, ..Amounts::default() });
        fixture.clock.0.fetch_add(HOUR_MS, Relaxed);
    }
    fixture.control.save_usage().unwrap();
    let fixture = fixture.reopened();
    let since = |since_ms| {
        let kind = SourceKind::Metrics;
        fixture.control.usage_of(&UsageQuery { project: None, source: None, kind, since_ms }).samples
    };
    assert_eq!((since(0), since(start + 190 * HOUR_MS)), (200, 10));
    fixture.clock.0.fetch_add(100 * 24 * HOUR_MS, Relaxed);
    fixture.control.save_usage().unwrap();
    assert_eq!(
        fixture.reopened().control.usage_of(&UsageQuery {
            project: None,
            source: Some(shared.id),
            kind: SourceKind::Metrics,
            since_ms: 0
        }),
        Amounts::default()
    );
}
