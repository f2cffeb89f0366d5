//! Random changes against plain lists, with restarts between them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Fixture, root};
use crate::{
    NewSource, Order, Page, ProjectId, Region, Scope, Scopes, SourceFilter, SourceKind, SourceLimits,
    TokenFilter,
};

#[derive(Debug, Clone)]
enum Step {
    CreateToken { name: u8, scopes: u16 },
    DeleteToken { nth: usize },
    CreateSource { name: u8, logs: bool },
    DeleteSource { nth: usize },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), any::<u16>()).prop_map(|(name, scopes)| Step::CreateToken { name, scopes }),
        2 => any::<usize>().prop_map(|nth| Step::DeleteToken { nth }),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(name, logs)| Step::CreateSource { name, logs }),
        2 => any::<usize>().prop_map(|nth| Step::DeleteSource { nth }),
        1 => Just(Step::Restart),
    ]
}

fn some_scopes(bits: u16) -> Scopes {
    Scope::ALL.into_iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0).map(|(_, s)| s).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn lists_hold_what_was_made_and_not_deleted(steps in proptest::collection::vec(step(), 1..24)) {
        let mut fixture = Fixture::new();
        // By the order of making.
        let mut tokens = Vec::new();
        let mut deleted = Vec::new();
        let mut sources = BTreeMap::new();
        for step in steps {
            match step {
                Step::CreateToken { name, scopes } => {
                    let scopes = some_scopes(scopes);
                    let (token, secret) = fixture.token(&format!("t{name}"), scopes);
                    tokens.push((token, secret));
                }
                Step::DeleteToken { nth } if !tokens.is_empty() => {
                    let (token, secret) = tokens.remove(nth % tokens.len());
                    fixture.control.delete_token(&root(), Region::FrPar, token.id).unwrap();
                    prop_assert!(fixture.control.delete_token(&root(), Region::FrPar, token.id).is_err());
                    deleted.push(secret);
                }
                Step::CreateSource { name, logs } => {
                    let new = NewSource {
                        project: ProjectId::DEFAULT,
                        region: Region::FrPar,
                        name: format!("s{name}"),
                        kind: if logs { SourceKind::Logs } else { SourceKind::Metrics },
                        retention_days: Some(u32::from(name) + 1),
                        limits: SourceLimits::default(),
                        remote: None,
                    };
                    let source = fixture.control.create_source(&root(), new).unwrap();
                    sources.insert(source.id, source);
                }
                Step::DeleteSource { nth } if !sources.is_empty() => {
                    let id = *sources.keys().nth(nth % sources.len()).unwrap();
                    sources.remove(&id);
                    fixture.control.delete_source(&root(), Region::FrPar, id).unwrap();
                }
                Step::Restart => fixture = fixture.reopened(),
                Step::DeleteToken { .. } | Step::DeleteSource { .. } => {}
            }
        }
        let page = Page::new(1, 100).unwrap();
        let listed = fixture.control.tokens(&TokenFilter { page, ..TokenFilter::default() });
        prop_assert_eq!(&listed.items, &tokens.iter().map(|(t, _)| t.clone()).collect::<Vec<_>>());
        for (token, secret) in &tokens {
            prop_assert_eq!(fixture.control.grant(secret).map(|g| g.token()), Some(token.id));
        }
        prop_assert!(deleted.iter().all(|secret| fixture.control.grant(secret).is_none()));
        let filter = SourceFilter { page, origin: Some(crate::Origin::Custom), ..SourceFilter::default() };
        let mut found = fixture.control.sources(&filter).items;
        found.sort_by_key(|s| s.id);
        prop_assert_eq!(found, sources.into_values().collect::<Vec<_>>());
        prop_assert_eq!(filter.order, Order::default());
    }
}
