//! A process that ends at any point of any change leaves the state before it or the state after
//! it, whole, with its entry of the audit trail or without both.

use std::sync::Arc;

use pilothouse_model::{StateChange, StateStore as _};

use super::{CrashPoints, FILE, Fixture, root};
use crate::image::Image;
use crate::{
    AuditEntry, Control, NewSource, Plan, ProjectId, Region, Scope, Scopes, SourceChange, SourceKind,
    SourceLimits,
};

/// All that a file says.
struct Content {
    image: Arc<Image>,
    audit: Vec<AuditEntry>,
    records: Vec<(String, Vec<u8>)>,
}

fn content(control: &Control) -> Content {
    Content {
        image: control.image(),
        audit: control.audit(None, usize::MAX).unwrap(),
        records: control.load("rules").unwrap(),
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.image.same_rows(&other.image) && self.audit == other.audit && self.records == other.records
    }
}

/// Every kind of change once, each handed to `around`.
fn changes(fixture: &Fixture, mut around: impl FnMut(&str, &mut dyn FnMut())) {
    let control = &fixture.control;
    let (by, project, region) = (root(), ProjectId::random(), Region::NlAms);
    let (mut token, mut source) = (None, None);
    let scopes = Scopes::from_iter([Scope::ReadLogs]);
    let new = || NewSource {
        project,
        region,
        name: "s".to_owned(),
        kind: SourceKind::Logs,
        retention_days: Some(3),
        limits: SourceLimits::default(),
        remote: None,
    };
    around("create token", &mut || token = Some(fixture.token("t", scopes).0));
    around("create source", &mut || source = Some(control.create_source(&by, new()).unwrap()));
    let (token, source) = (token.unwrap(), source.unwrap());
    let change = SourceChange { retention_days: Some(9), ..SourceChange::default() };
    around("update source", &mut || {
        let make = |_: &crate::DataSource| Ok::<_, crate::Error>(change.clone());
        control.update_source(&by, region, source.id, make).unwrap();
    });
    around("contact point", &mut || {
        control.create_contact_point(&by, project, region, "a@b.c", true).unwrap();
    });
    around("switch", &mut || {
        control.enable_managed_alerts(&by, project, region, true).unwrap();
    });
    around("grafana user", &mut || {
        control.create_grafana_user(&by, project, "anna", crate::GrafanaRole::Viewer).unwrap();
    });
    around("plan", &mut || control.select_plan(&by, project, Plan::Premium).unwrap());
    let record = |value: Option<&[u8]>| {
        [StateChange { table: "rules", key: "g".to_owned(), value: value.map(<[u8]>::to_vec) }]
    };
    around("record", &mut || control.apply(&record(Some(b"x"))).unwrap());
    around("remove record", &mut || control.apply(&record(None)).unwrap());
    around("delete contact point", &mut || {
        control.delete_contact_point(&by, project, region, "a@b.c").unwrap();
    });
    around("delete source", &mut || control.delete_source(&by, region, source.id).unwrap());
    around("data removed", &mut || control.removed(source.id).unwrap());
    around("delete token", &mut || control.delete_token(&by, Region::FrPar, token.id).unwrap());
}

#[test]
fn a_crash_leaves_the_state_before_or_after_a_change() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join(FILE);
    changes(&fixture, |name, change| {
        let before = content(&fixture.control);
        *fixture.control.crash_points.lock() =
            Some(CrashPoints { path: path.clone(), copies: Default::default() });
        change();
        let points = fixture.control.crash_points.lock().take().unwrap();
        let after = content(&fixture.control);
        assert!(before != after, "{name} changes nothing");
        let copies = points.copies.into_inner();
        assert_eq!(copies.len(), 3, "{name}");
        for (point, copy) in copies {
            let opened = Control::open(&copy.path().join(FILE), fixture.options()).unwrap();
            let expected = if point == "committed" { &after } else { &before };
            assert!(content(&opened) == *expected, "{name} at {point}");
            // What was opened after a crash takes changes.
            opened.select_plan(&root(), ProjectId::random(), Plan::Custom).unwrap();
        }
    });
}

#[test]
fn everything_is_there_again_after_a_restart() {
    let fixture = Fixture::new();
    changes(&fixture, |_, change| change());
    let (_, secret) = fixture.token("kept", Scopes::from_iter([Scope::WriteMetrics]));
    let before = content(&fixture.control);
    let fixture = fixture.reopened();
    assert!(content(&fixture.control) == before);
    assert!(fixture.control.grant(&secret).is_some_and(|g| g.may(Scope::WriteMetrics)));
}
