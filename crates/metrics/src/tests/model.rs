//! Random work on a store and on a plain map, compared after every step that moves samples.

use pilothouse_model::sample::stale_nan;
use pilothouse_model::time::{DAY_MS, MINUTE_MS};
use pilothouse_model::{MatchOp, Span};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const SERIES: usize = 12;

struct Bench {
    directory: tempfile::TempDir,
    clock: Arc<Stepped>,
    store: Option<Store>,
    model: Content,
    rng: StdRng,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Stepped::new(NOON));
        let store = Some(Store::open(directory.path(), options(&clock)).unwrap());
        Self { directory, clock, store, model: Content::new(), rng: StdRng::seed_from_u64(seed) }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn labels(&mut self) -> Labels {
        series(["a_total", "b"][self.rng.random_range(0..2)], self.rng.random_range(0..SERIES))
    }

    fn time(&mut self) -> i64 {
        let now = self.clock.now_ms();
        match self.rng.random_range(0..10) {
            0..6 => now - self.rng.random_range(0..20),
            6..8 => now - self.rng.random_range(0..30 * MINUTE_MS),
            8 => now - self.rng.random_range(0..3 * DAY_MS),
            _ => now + self.rng.random_range(0..9 * MINUTE_MS),
        }
    }

    fn value(&mut self) -> Value {
        match self.rng.random_range(0..12) {
            0 => Value::Float(stale_nan().to_bits()),
            1 => Value::Float(self.rng.random::<u64>()),
            2..4 => Value::Histogram(Box::new(self.histogram())),
            _ => Value::Float(f64::from(self.rng.random_range(0..1000)).to_bits()),
        }
    }

    fn histogram(&mut self) -> Histogram {
        let counts: Vec<f64> = (0..3).map(|_| f64::from(self.rng.random_range(0..100))).collect();
        Histogram {
            schema: 2,
            integer: true,
            count: counts.iter().sum(),
            sum: f64::from(self.rng.random_range(0..1000)),
            positive_spans: vec![Span { offset: self.rng.random_range(-3..3), length: 3 }],
            positive_counts: counts,
            ..Histogram::default()
        }
    }

    fn append_one(&mut self) {
        let (labels, t, value) = (self.labels(), self.time(), self.value());
        let push = match &value {
            Value::Float(bits) => Push::new().floats(&labels, &[(t, f64::from_bits(*bits))]),
            Value::Histogram(h) => Push::new().series(&labels, &[], &[(t, (**h).clone())]),
        };
        let appended = push.to(self.store());
        let taken = appended.rejected == 0;
        let held = self.model.entry(labels.clone()).or_default();
        match held.get(&t) {
            None => assert!(taken, "{labels} {t} {appended:?}"),
            Some(old) if *old == value => assert!(taken, "{labels} {t} {appended:?}"),
            Some(_) => {}
        }
        if taken {
            held.insert(t, value);
        }
    }

    fn append_many(&mut self) {
        let mut push = Push::new();
        let now = self.clock.now_ms();
        for name in ["a_total", "b"] {
            for i in 0..SERIES {
                let labels = series(name, i);
                let value = f64::from(self.rng.random_range(0..10_000)) / 8.0;
                let held = self.model.entry(labels.clone()).or_default();
                if let std::collections::btree_map::Entry::Vacant(free) = held.entry(now) {
                    push = push.floats(&labels, &[(now, value)]);
                    free.insert(Value::Float(value.to_bits()));
                }
            }
        }
        assert_eq!(push.to(self.store()).rejected, 0);
    }

    fn delete(&mut self) {
        let (a, b) = (self.time(), self.time());
        let (start, end) = (a.min(b), a.max(b));
        let i = self.rng.random_range(0..SERIES).to_string();
        let op = if self.rng.random() { MatchOp::Equal } else { MatchOp::NotEqual };
        let sets = vec![vec![Matcher::equal("__name__", "b"), Matcher::new(op, "i", i).unwrap()]];
        self.store().delete_series(&sets, start, end).unwrap();
        for (labels, held) in &mut self.model {
            let hit = sets[0].iter().all(|m| m.matches(labels.value(&m.name)));
            held.retain(|t, _| !hit || !(start..=end).contains(t));
        }
    }

    fn reopen(&mut self, clean: bool) {
        let store = self.store.take().unwrap();
        if clean {
            store.close().unwrap();
        }
        drop(store);
        self.store = Some(Store::open(self.directory.path(), options(&self.clock)).unwrap());
    }

    fn step(&mut self) {
        match self.rng.random_range(0..1000) {
            0..10 => self.store().seal_all().unwrap(),
            10..14 => self.store().compact_now().unwrap(),
            14..18 => self.reopen(true),
            18..22 => self.reopen(false),
            22..30 => self.delete(),
            30..34 => self.clock.step(self.rng.random_range(0..DAY_MS)),
            34..200 => {
                self.append_many();
                self.clock.step(15_000);
            }
            _ => return self.append_one(),
        }
        if self.rng.random_range(0..4) == 0 {
            self.check();
        }
    }

    fn check(&mut self) {
        let expected: Content =
            self.model.iter().filter(|(_, s)| !s.is_empty()).map(|(l, s)| (l.clone(), s.clone())).collect();
        compare(&read_all(self.store()), &expected);
        let (a, b) = (self.time(), self.time());
        let (start, end) = (a.min(b), a.max(b));
        let matcher = Matcher::equal("__name__", "b");
        let within = |(l, s): (&Labels, &BTreeMap<i64, Value>)| {
            let part: BTreeMap<i64, Value> = s.range(start..=end).map(|(t, v)| (*t, v.clone())).collect();
            (l.metric_name() == Some("b") && !part.is_empty()).then(|| (l.clone(), part))
        };
        compare(
            &read_between(self.store(), vec![matcher], start, end),
            &expected.iter().filter_map(within).collect(),
        );
        self.check_latest(&expected, start, end);
    }

    fn check_latest(&self, expected: &Content, after: i64, at: i64) {
        let any = Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap();
        let needs = LabelNeeds::All;
        let selection = Selection { matchers: vec![any], start_ms: after, end_ms: at, needs };
        let nothing = BTreeMap::new();
        for series in self.store().select(&selection, &Budget::unlimited()).unwrap() {
            let held = expected.get(&series.labels).unwrap_or(&nothing);
            let newest = if after < at { held.range(after + 1..=at).next_back() } else { None };
            let found = series.samples.latest(after, at).unwrap().map(|(t, v)| match v {
                pilothouse_model::SampleValue::Float(f) => (t, Value::Float(f.to_bits())),
                pilothouse_model::SampleValue::Histogram(h) => (t, Value::Histogram(Box::new((*h).clone()))),
            });
            assert_eq!(found, newest.map(|(t, v)| (*t, v.clone())), "{} ({after}, {at}]", series.labels);
        }
    }
}

fn compare(found: &Content, expected: &Content) {
    for (labels, samples) in expected {
        let found = found.get(labels).unwrap_or_else(|| panic!("{labels} is missing"));
        for (t, value) in samples {
            assert_eq!(found.get(t), Some(value), "{labels} at {t}");
        }
        for t in found.keys() {
            assert!(samples.contains_key(t), "{labels} at {t} should not be there");
        }
    }
    for labels in found.keys() {
        assert!(expected.contains_key(labels), "{labels} should not be there");
    }
}

#[test]
fn the_store_is_a_map() {
    for seed in 0..4 {
        let mut bench = Bench::new(seed);
        for step in 0..700 {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.step())).is_err() {
                panic!("seed {seed}, step {step}");
            }
        }
        bench.check();
        bench.reopen(true);
        bench.check();
    }
}
