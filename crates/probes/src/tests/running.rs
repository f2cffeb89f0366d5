use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilothouse_model::ports::SystemClock;
use pilothouse_model::sample::is_stale;
use pilothouse_model::state::MemoryState;
use pilothouse_model::{Labels, LogBatch, NoMemory, SourceError};
use tokio::sync::watch;

use super::few;
use crate::registry::{BUILTIN_PROBE, Registry, RegistrySettings};
use crate::run::{Prober, Publisher, Recorder, ResultSink, Schedule, Target};
use crate::words::{AdHocCheck, Check, CheckSettings, HttpSettings, Label, Probe};

#[derive(Debug, Default)]
struct Kept {
    samples: Mutex<Vec<(Labels, i64, f64)>>,
    lines: Mutex<Vec<(Labels, String, Labels)>>,
}

impl ResultSink for Kept {
    fn series(&self, _: i64, samples: &[(Labels, i64, f64)]) -> Result<(), SourceError> {
        self.samples.lock().unwrap().extend_from_slice(samples);
        Ok(())
    }

    fn entries(&self, _: i64, batches: &[LogBatch]) -> Result<(), SourceError> {
        for batch in batches {
            for stream in &batch.streams {
                let entries = batch.entries_of(stream).iter();
                let lines =
                    entries.map(|e| (stream.labels.clone(), batch.line_of(e).to_owned(), e.metadata.clone()));
                self.lines.lock().unwrap().extend(lines);
            }
        }
        Ok(())
    }
}

/// Succeeds unless the target holds `bad`; hangs where it holds `hang`, and finds no room where it
/// holds `crowded`.
#[derive(Debug, Default)]
struct Pretend {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Prober for Pretend {
    fn probe<'a>(
        &'a self,
        target: &'a Target<'a>,
        recorder: &'a mut Recorder,
    ) -> Pin<Box<dyn Future<Output = Result<bool, NoMemory>> + Send + 'a>> {
        Box::pin(async move {
            self.most.fetch_max(self.now.fetch_add(1, Relaxed) + 1, Relaxed);
            recorder.gauge("probe_http_duration_seconds", "", &[("phase", "tls")], 0.25);
            recorder.info("Received HTTP response", &[("status_code", &200)]);
            if target.target.contains("hang") {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
            }
            self.now.fetch_sub(1, Relaxed);
            if target.target.contains("crowded") {
                return Err(NoMemory { used_bytes: 60 << 20, limit_bytes: 64 << 20 });
            }
            Ok(!target.target.contains("bad"))
        })
    }
}

fn registry() -> (Arc<Registry>, i64) {
    let settings = RegistrySettings {
        builtin: Probe { name: "local".into(), region: "LAB".into(), ..Probe::default() },
        limits: few(10),
        memory: Arc::default(),
    };
    let registry = Registry::open(settings, Arc::<MemoryState>::default(), Arc::new(SystemClock)).unwrap();
    let tenant = registry.install(1, 1, 1, Default::default).unwrap().tenant;
    (Arc::new(registry), tenant)
}

fn check(target: &str) -> Check {
    Check {
        job: "j".into(),
        target: target.into(),
        frequency: 1_000,
        timeout: 1_000,
        offset: 1,
        probes: vec![BUILTIN_PROBE],
        enabled: true,
        labels: vec![Label { name: "env".into(), value: "kit".into() }],
        settings: Some(CheckSettings { http: Some(HttpSettings::default()), ..CheckSettings::default() }),
        ..Check::default()
    }
}

/// A value of a family by instance, the newest.
fn value(kept: &Kept, name: &str, instance: &str) -> Option<f64> {
    let samples = kept.samples.lock().unwrap();
    let of = |labels: &Labels| labels.value("__name__") == name && labels.value("instance") == instance;
    samples.iter().rev().find(|(labels, _, _)| of(labels)).map(|(_, _, value)| *value)
}

#[tokio::test(start_paused = true)]
async fn checks_run_publish_and_end_with_stale_markers() {
    let (registry, tenant) = registry();
    let (kept, prober) = (Arc::new(Kept::default()), Arc::new(Pretend::default()));
    let publisher =
        Publisher::start(Arc::clone(&kept) as Arc<dyn ResultSink>, 1_000, &Arc::default()).unwrap();
    let schedule = Schedule::new(
        Arc::clone(&registry),
        Arc::clone(&prober) as Arc<dyn Prober>,
        publisher.clone(),
        100,
        tokio::runtime::Handle::current(),
    );
    let schedule = Arc::new(schedule);
    schedule.run_adhoc(AdHocCheck {
        id: "once".into(),
        target: "http://a.b/once".into(),
        timeout: 1_000,
        probes: vec![BUILTIN_PROBE],
        settings: check("").settings,
        ..AdHocCheck::default()
    });
    let stats = schedule.stats();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(schedule.run(stopped));
    let good = registry.add_check(tenant, check("http://a.b/good")).unwrap();
    registry.add_check(tenant, check("http://a.b/bad")).unwrap();
    registry.add_check(tenant, check("http://a.b/hang")).unwrap();
    registry.add_check(tenant, check("http://a.b/crowded")).unwrap();
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    registry.delete_check(tenant, good.id).unwrap();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!(stats.checks.load(Relaxed), 3);
    stop.send(true).unwrap();
    running.await.unwrap();
    publisher.drain();

    let count = |instance| value(&kept, "probe_all_success_count", instance).unwrap();
    assert!(value(&kept, "probe_success", "http://a.b/good").is_some_and(is_stale));
    assert!(value(&kept, "sm_check_info", "http://a.b/good").is_some_and(is_stale));
    assert_eq!(value(&kept, "probe_success", "http://a.b/bad"), Some(0.0));
    assert_eq!(value(&kept, "probe_success", "http://a.b/hang"), Some(0.0));
    assert!((5.0..=6.0).contains(&count("http://a.b/bad")), "{}", count("http://a.b/bad"));
    assert!(count("http://a.b/hang") >= 4.0, "a run that hangs ends at its timeout");

    // Of a target whose answer found no room nothing is said but why.
    assert!(stats.left_out_runs.load(Relaxed) >= 4);
    let of_crowded = |labels: &Labels| labels.value("instance") == "http://a.b/crowded";
    assert!(!kept.samples.lock().unwrap().iter().any(|(labels, _, _)| of_crowded(labels)));
    let lines = kept.lines.lock().unwrap();
    let crowded: Vec<_> = lines.iter().filter(|(labels, _, _)| of_crowded(labels)).collect();
    assert!(crowded.iter().all(|(labels, _, _)| labels.get("probe_success").is_none()));
    for said in ["the server is at its memory limit (60 MiB of 64 MiB are in use)", "Check left out"] {
        assert!(crowded.iter().any(|(_, line, _)| line.contains(said)), "{said}");
    }
    let good = lines.iter().find(|(_, line, _)| line.contains("msg=\"Check succeeded\"")).unwrap();
    assert!(
        good.1
            .starts_with("level=info target=http://a.b/good probe=local region=LAB instance=http://a.b/good")
    );
    assert_eq!((good.0.value("probe_success"), good.0.value("label_env")), ("1", "kit"));
    assert_eq!(good.2.value("execution_id").len(), 36);
    assert!(lines.iter().any(|(_, line, _)| line.contains("level=error") && line.contains("Check failed")));
    let once = lines.iter().find(|(labels, _, _)| labels.value("type") == "adhoc").unwrap();
    let document: serde_json::Value = serde_json::from_str(&once.1).unwrap();
    assert_eq!((&document["id"], &document["check_name"]), (&"once".into(), &"http".into()));
    assert_eq!(document["timeseries"][0]["name"], "probe_success");
}

#[tokio::test(start_paused = true)]
async fn a_rare_check_is_published_again() {
    let (registry, tenant) = registry();
    let kept = Arc::new(Kept::default());
    let publisher =
        Publisher::start(Arc::clone(&kept) as Arc<dyn ResultSink>, 1_000, &Arc::default()).unwrap();
    let schedule = Schedule::new(
        Arc::clone(&registry),
        Arc::<Pretend>::default(),
        publisher.clone(),
        1,
        tokio::runtime::Handle::current(),
    );
    let schedule = Arc::new(schedule);
    let (stop, stopped) = watch::channel(false);
    registry.add_check(tenant, Check { frequency: 600_000, ..check("http://a.b/rare") }).unwrap();
    let running = tokio::spawn(schedule.run(stopped));
    tokio::time::sleep(Duration::from_secs(590)).await;
    stop.send(true).unwrap();
    running.await.unwrap();
    publisher.drain();
    let samples = kept.samples.lock().unwrap();
    let published =
        samples.iter().filter(|(labels, _, _)| labels.value("__name__") == "probe_success").count();
    assert_eq!(published, 5, "one run, and every two minutes its values");
    assert_eq!(
        kept.lines.lock().unwrap().iter().filter(|(_, l, _)| l.contains("Beginning check")).count(),
        1
    );
}
