use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pilothouse_model::StateStore;
use pilothouse_model::ports::Clock;
use pilothouse_model::state::MemoryState;

use super::few;
use crate::registry::{
    BUILTIN_PROBE, Caller, CheckAlert, Declared, DeclaredCheck, OWN_TENANT, Refusal, RefusalKind, Registry,
    RegistrySettings, StatusUpdate, TenantSettings, TenantUpdate,
};
use crate::words::{Check, CheckSettings, HttpSettings, LabelMode, Probe, Remote};

#[derive(Debug, Default)]
struct Stepped(AtomicI64);

impl Clock for Stepped {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn open(state: &Arc<MemoryState>) -> Registry {
    let settings = RegistrySettings {
        builtin: Probe { name: "local".into(), ..Probe::default() },
        limits: few(3),
        memory: Arc::default(),
    };
    let clock = Stepped(AtomicI64::new(1_700_000_000_250));
    Registry::open(settings, Arc::clone(state) as Arc<dyn StateStore>, Arc::new(clock)).unwrap()
}

fn install(registry: &Registry, stack: i64) -> Caller {
    let remote = || (Remote { password: "p".into(), ..Remote::default() }, Remote::default());
    let installed = registry.install(stack, 1, 2, remote).unwrap();
    registry.authenticate(&installed.access_token).unwrap()
}

fn http(job: &str) -> Check {
    Check {
        job: job.into(),
        target: "http://127.0.0.1/".into(),
        frequency: 1_000,
        timeout: 1_000,
        probes: vec![BUILTIN_PROBE],
        enabled: true,
        settings: Some(CheckSettings { http: Some(HttpSettings::default()), ..CheckSettings::default() }),
        ..Check::default()
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalKind {
    result.unwrap_err().kind
}

#[test]
fn a_stack_has_one_tenant_and_tokens_end_at_once() {
    let registry = open(&Arc::default());
    let (one, again, other) = (install(&registry, 1), install(&registry, 1), install(&registry, 2));
    assert_eq!(one.tenant, again.tenant);
    assert_ne!(one.tenant, other.tenant);
    assert_eq!(kind(registry.install(3, 1, 1, Default::default)), RefusalKind::TooMany);
    assert_eq!(kind(registry.install(0, 1, 1, Default::default)), RefusalKind::Invalid);
    let token = registry.create_token(&one).unwrap();
    let caller = registry.authenticate(&token).unwrap();
    let fresh = registry.refresh_token(&caller).unwrap();
    assert_eq!(registry.authenticate(&token), None);
    registry.delete_token(&registry.authenticate(&fresh).unwrap()).unwrap();
    assert_eq!(registry.authenticate(&fresh), None);
}

#[test]
fn checks_are_kept_compared_and_assigned() {
    let state = Arc::default();
    let registry = open(&state);
    let tenant = install(&registry, 1).tenant;
    let other = install(&registry, 2).tenant;
    let stored = registry.add_check(tenant, Check { id: 99, tenant_id: 77, ..http("a") }).unwrap();
    assert_eq!((stored.id, stored.tenant_id, stored.alert_sensitivity.as_str()), (1, tenant, "none"));
    assert_eq!(kind(registry.add_check(tenant, http("a"))), RefusalKind::Conflict);
    assert_eq!(kind(registry.check(other, stored.id)), RefusalKind::NotFound);
    let mut changes = registry.changes();
    changes.mark_unchanged();
    let updated = registry.update_check(tenant, Check { frequency: 2_000, ..stored.clone() }).unwrap();
    assert!(changes.has_changed().unwrap());
    assert!(updated.modified > stored.modified && updated.created == stored.created);
    assert_eq!(
        kind(registry.update_check(tenant, Check { tenant_id: other, ..stored.clone() })),
        RefusalKind::Invalid
    );
    let unknown = Check { probes: vec![9], ..http("b") };
    assert_eq!(kind(registry.add_check(tenant, unknown)), RefusalKind::Invalid);
    assert_eq!(registry.assignments(BUILTIN_PROBE), [Arc::new(updated.clone())]);
    let status = StatusUpdate { code: 1, reason: "pause".into() };
    registry.update_tenant(tenant, TenantUpdate { status: Some(status), ..TenantUpdate::default() }).unwrap();
    assert_eq!(registry.assignments(BUILTIN_PROBE), []);
    let reopened = open(&state);
    assert_eq!(reopened.check(tenant, 1).unwrap(), updated);
    reopened.delete_check(tenant, 1).unwrap();
    assert_eq!(reopened.add_check(tenant, http("a")).unwrap().id, 2, "an id is never given again");
}

#[test]
fn probes_have_tokens_in_two_spellings_and_are_kept_while_in_use() {
    use base64::Engine as _;
    let registry = open(&Arc::default());
    let tenant = install(&registry, 1).tenant;
    let other = install(&registry, 2).tenant;
    let named = Probe { name: "p".into(), public: true, ..Probe::default() };
    let (probe, token) = registry.add_probe(tenant, named).unwrap();
    assert!(!probe.public && !probe.online);
    let coded = base64::engine::general_purpose::STANDARD.encode(&token);
    for spelling in [&token, &coded] {
        assert_eq!(registry.probe_by_token(spelling).unwrap().id, probe.id);
    }
    assert_eq!(kind(registry.probe(other, probe.id)), RefusalKind::NotFound);
    assert_eq!(kind(registry.update_probe(tenant, registry.builtin_probe(), false)), RefusalKind::Forbidden);
    assert_eq!(kind(registry.delete_probe(tenant, BUILTIN_PROBE)), RefusalKind::Forbidden);
    let check = registry.add_check(tenant, Check { probes: vec![probe.id], ..http("a") }).unwrap();
    assert_eq!(kind(registry.delete_probe(tenant, probe.id)), RefusalKind::Conflict);
    assert_eq!(kind(registry.delete_tenant(tenant)), RefusalKind::Conflict);
    let (_, again) = registry.update_probe(tenant, probe.clone(), true).unwrap();
    assert!(registry.probe_by_token(&token).is_none() && registry.probe_by_token(&again.unwrap()).is_some());
    registry.delete_check(tenant, check.id).unwrap();
    registry.delete_probe(tenant, probe.id).unwrap();
    registry.delete_tenant(tenant).unwrap();
    assert_eq!(registry.tenant(tenant), None);
}

#[test]
fn alerts_follow_their_table() {
    let registry = open(&Arc::default());
    let tenant = install(&registry, 1).tenant;
    let check = registry.add_check(tenant, http("a")).unwrap();
    let set = |name: &str, period: &str| {
        let alert =
            CheckAlert { name: name.into(), period: period.into(), threshold: 1.0, ..CheckAlert::default() };
        registry.set_alerts(tenant, check.id, vec![alert]).map_or_else(|e| e.cause, |_| "ok".to_owned())
    };
    assert_eq!(set("ProbeFailedExecutionsTooHigh", "5m"), "ok");
    assert_eq!(set("ProbeFailedExecutionsTooHigh", "7m"), "period not supported for alert");
    assert_eq!(set("TLSTargetCertificateCloseToExpiring", ""), "ok");
    assert_eq!(set("TLSTargetCertificateCloseToExpiring", "5m"), "period not supported for alert");
    assert_eq!(set("PingRequestDurationTooHighAvg", "5m"), "invalid check type for alert");
    assert_eq!(set("Nothing", "5m"), "invalid alert name");
    assert_eq!(registry.alerting_checks().len(), 1);
    registry.set_alerts(tenant, check.id, Vec::new()).unwrap();
    assert_eq!(registry.alerting_checks().len(), 0);
}

#[test]
fn the_mask_keeps_a_password() {
    let registry = open(&Arc::default());
    let tenant = install(&registry, 1).tenant;
    let remote = Remote { url: "http://x".into(), password: Remote::MASK.into(), ..Remote::default() };
    let update = TenantUpdate { metrics_remote: Some(remote), ..TenantUpdate::default() };
    let remote = registry.update_tenant(tenant, update).unwrap().metrics_remote.unwrap();
    assert_eq!((remote.url.as_str(), remote.password.as_str()), ("http://x", "p"));
}

fn declared(job: &str, frequency: i64) -> DeclaredCheck {
    DeclaredCheck { check: Check { probes: Vec::new(), frequency, ..http(job) }, alerts: Vec::new() }
}

#[test]
fn declared_checks_are_reconciled_and_belong_to_nobody() {
    let state = Arc::default();
    let registry = open(&state);
    let tenant = install(&registry, 1).tenant;
    let done = registry.declare(vec![declared("a", 1_000), declared("b", 1_000)]).unwrap();
    assert_eq!(done, Declared { added: 2, ..Declared::default() });
    let listed = registry.checks(tenant);
    let a = listed[0].0.clone();
    assert_eq!((listed.len(), a.tenant_id, a.probes.as_slice()), (2, OWN_TENANT, &[BUILTIN_PROBE][..]));
    assert_eq!(registry.assignments(BUILTIN_PROBE).len(), 2);
    assert_eq!(kind(registry.update_check(tenant, a.clone())), RefusalKind::Forbidden);
    assert_eq!(kind(registry.delete_check(tenant, a.id)), RefusalKind::Forbidden);
    assert_eq!(kind(registry.set_alerts(tenant, a.id, Vec::new())), RefusalKind::Forbidden);
    assert_eq!(kind(registry.add_check(tenant, http("a"))), RefusalKind::Conflict);
    // What is said as before goes on as it is, also after a restart.
    let registry = open(&state);
    let done = registry.declare(vec![declared("a", 1_000), declared("c", 1_000)]).unwrap();
    assert_eq!(done, Declared { added: 1, changed: 0, removed: 1 });
    assert_eq!(registry.check(tenant, a.id).unwrap(), a);
    let done = registry.declare(vec![declared("a", 2_000), declared("c", 1_000)]).unwrap();
    assert_eq!(done, Declared { changed: 1, ..Declared::default() });
    assert!(registry.check(tenant, a.id).unwrap().modified > a.modified);
}

#[test]
fn a_declaration_holds_as_a_whole_or_changes_nothing() {
    let registry = open(&Arc::default());
    registry.declare(vec![declared("a", 1_000)]).unwrap();
    let why = |checks: Vec<DeclaredCheck>| {
        let refused = registry.may_declare(&checks, &few(3).now()).unwrap_err();
        assert_eq!(registry.declare(checks).unwrap_err(), refused);
        refused.cause
    };
    assert_eq!(why(vec![declared("b", 1)]), "job \"b\": invalid check frequency");
    let twice = why(vec![declared("b", 1_000), declared("b", 1_000)]);
    assert_eq!(twice, "job \"b\": target/job combination is declared twice");
    let mut elsewhere = declared("b", 1_000);
    elsewhere.check.probes = vec![7];
    assert!(why(vec![elsewhere]).contains("built-in probe"));
    let mut alerting = declared("b", 1_000);
    alerting.alerts = vec![CheckAlert { name: "Nothing".into(), ..CheckAlert::default() }];
    assert_eq!(why(vec![alerting]), "job \"b\": invalid alert name");
    assert_eq!(why((0..4).map(|i| declared(&format!("{i}"), 1_000)).collect()), "4 checks, limit 3");
    let jobs: Vec<String> = registry.all_checks().into_iter().map(|check| check.job).collect();
    assert_eq!(jobs, ["a"]);
}

#[test]
fn what_a_tenant_keeps_goes_with_it() {
    let state = Arc::default();
    let registry = open(&state);
    let tenant = install(&registry, 1).tenant;
    let settings = TenantSettings { remote_validation_disabled: true, ..TenantSettings::default() };
    registry.set_tenant_settings(tenant, settings.clone()).unwrap();
    let update = TenantUpdate { label_mode: Some(LabelMode::DualWrite as i32), ..TenantUpdate::default() };
    registry.update_tenant(tenant, update).unwrap();
    let wrong = TenantUpdate { label_mode: Some(7), ..TenantUpdate::default() };
    assert_eq!(kind(registry.update_tenant(tenant, wrong)), RefusalKind::Invalid);
    let registry = open(&state);
    assert_eq!(registry.tenant_settings(tenant), settings);
    assert_eq!(registry.label_mode(tenant), LabelMode::DualWrite);
    registry.delete_tenant(tenant).unwrap();
    let registry = open(&state);
    assert_eq!((registry.tenant(tenant), registry.instances(tenant)), (None, (0, 0)));
    // Its place is free: two tenants fit.
    install(&registry, 2);
    install(&registry, 3);
}
