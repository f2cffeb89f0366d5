//! Deletions hide at once, are made real later, can be taken back, and mean no later write.

use super::*;
use crate::{DeletionRequest, FilterCompiler, LinePredicate};

pub(super) fn with_filters(clock: &Arc<TestClock>) -> StoreOptions {
    let compile = |text: &str| -> Result<LinePredicate, String> {
        let needle = text.strip_prefix("|= ").ok_or("only |= is known")?.to_owned();
        Ok(Arc::new(move |_: &Labels, line: &str, _: Option<&Labels>| line.contains(&needle)))
    };
    StoreOptions { filters: FilterCompiler(Arc::new(compile)), ..options(clock) }
}

fn entries(app: &str, n: i64) -> Vec<Entry> {
    let set = |i: i64| Labels::from_pairs([("n", &*(i % 4).to_string())]);
    (0..n).map(|i| (labels(app), NOON_NS + i * 1_000_000, format!("line {i}"), set(i))).collect()
}

fn request(app: &str, from: i64, to: i64, filter: &str) -> DeletionRequest {
    DeletionRequest {
        matchers: vec![Matcher::equal("app", app)],
        start_ns: NOON_NS + from * 1_000_000,
        end_ns: NOON_NS + to * 1_000_000,
        filter: filter.to_owned(),
        query: format!("{{app=\"{app}\"}} {filter}"),
    }
}

#[test]
fn entries_are_hidden_at_once_and_gone_later() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = Store::open(dir.path(), with_filters(&clock)).unwrap();
    let mut model = Model::default();
    for app in ["a", "b"] {
        push(&store, &entries(app, 3_000)[..2_000]);
        store.flush().unwrap();
        push(&store, &entries(app, 3_000)[2_000..]);
        model.add(&entries(app, 3_000));
    }
    let first = store.delete(&request("a", 500, 2_500, "")).unwrap();
    let second = store.delete(&request("b", 0, 3_000, "|= 7")).unwrap();
    model.0.retain(|(l, t, line), _| match l.value("app") {
        "a" => *t < NOON_NS + 500_000_000 || *t >= NOON_NS + 2_500_000_000,
        _ => !line.contains('7'),
    });
    check_same(&all(&store), &model.entries(), "hidden");
    let later = entries("a", 700);
    assert_eq!(push(&store, &later[600..]).entries, 100);
    model.add(&later[600..]);
    check_same(&all(&store), &model.entries(), "written later");
    store.maintain().unwrap();
    assert!(store.deletions().iter().all(|d| !d.done));
    store.close().unwrap();
    drop(store);
    let store = Store::open(dir.path(), with_filters(&clock)).unwrap();
    check_same(&all(&store), &model.entries(), "after a restart");
    let ids: Vec<u64> = store.deletions().iter().map(|d| d.id).collect();
    assert_eq!(ids, [first, second]);
    clock.advance(25 * 3_600_000);
    store.maintain().unwrap();
    assert!(store.deletions().iter().all(|d| d.done));
    assert!(!store.cancel_deletion(first).unwrap());
    check_same(&all(&store), &model.entries(), "made real");
    let stored: u64 = store
        .inner
        .days
        .all()
        .iter()
        .flat_map(|d| d.view().unwrap().segments.clone())
        .flat_map(|s| s.table.rows.iter().map(|r| u64::from(r.entries)).collect::<Vec<_>>())
        .sum();
    assert_eq!(stored, model.0.len() as u64);
    // What is gone may come again.
    assert_eq!(push(&store, &entries("b", 3_000)[7..8]).entries, 1);
}

#[test]
fn a_deletion_can_be_taken_back_and_bad_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = Store::open(dir.path(), with_filters(&clock)).unwrap();
    push(&store, &entries("a", 100));
    let id = store.delete(&request("a", 0, 100, "")).unwrap();
    assert_eq!(all(&store).len(), 0);
    assert!(store.cancel_deletion(id).unwrap());
    assert!(!store.cancel_deletion(id).unwrap());
    assert_eq!(all(&store).len(), 100);
    assert_eq!(push(&store, &entries("a", 100)).duplicates, 100);
    drop(store);
    let store = Store::open(dir.path(), with_filters(&clock)).unwrap();
    assert_eq!((all(&store).len(), store.deletions().len()), (100, 0));
    assert!(store.delete(&request("a", 0, 100, "!= x")).is_err());
    assert!(store.delete(&request("a", 100, 100, "")).is_err());
    let other = store.delete(&request("a", 0, 50, "")).unwrap();
    assert_eq!(push(&store, &entries("a", 100)).entries, 50);
    // Else what it hides would be there twice.
    assert!(!store.cancel_deletion(other).unwrap());
    assert_eq!(all(&store).len(), 100);
    let everything = DeletionRequest { matchers: Vec::new(), ..request("a", 0, 100, "") };
    assert!(store.delete(&everything).is_err());
    assert!(store.delete(&request("a", 0, 100, "")).unwrap() > id);
}

#[test]
fn a_block_of_which_all_is_deleted_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOON_NS + 60 * MINUTE_NS);
    let store = Store::open(dir.path(), limited(&clock, |l| l.log_deletion_delay_ms = 0)).unwrap();
    push(&store, &entries("a", 100));
    push(&store, &entries("b", 100));
    store.flush().unwrap();
    store.delete(&request("a", 0, 1_000, "")).unwrap();
    store.maintain().unwrap();
    assert_eq!(all(&store), {
        let mut e = entries("b", 100);
        e.sort();
        e
    });
    let blocks: usize = store.inner.days.all().iter().map(|d| d.view().unwrap().block_count()).sum();
    assert_eq!(blocks, 1);
}
