//! Stories: targets that answer over the loopback, a sink that keeps what it is given.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pilothouse_model::limits::{Limits, LiveLimits};
use pilothouse_model::memory::Part;
use pilothouse_model::sample::is_stale;
use pilothouse_model::write::{Appended, RawPair, WriteBatch};
use pilothouse_model::{Labels, Memory, SampleSink, SourceError};
use pilothouse_scrape::{LocalTarget, Scraper, Sections, config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What a target answers, and what it was asked.
#[derive(Debug, Default)]
struct Script {
    status: u16,
    content_type: String,
    body: Vec<u8>,
    delay: Duration,
    asked: Vec<String>,
}

#[derive(Debug, Clone)]
struct FakeTarget {
    address: String,
    script: Arc<Mutex<Script>>,
}

impl FakeTarget {
    async fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = Self { address, script: Arc::default() };
        target.expose(body);
        let script = Arc::clone(&target.script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script)));
            }
        });
        target
    }

    fn expose(&self, body: &str) {
        self.answer(200, "text/plain; version=0.0.4", body.as_bytes());
    }

    fn answer(&self, status: u16, content_type: &str, body: &[u8]) {
        let mut script = self.script.lock().unwrap();
        script.status = status;
        script.content_type = content_type.to_owned();
        script.body = body.to_vec();
    }

    fn asked(&self) -> Vec<String> {
        self.script.lock().unwrap().asked.clone()
    }
}

async fn serve(mut stream: tokio::net::TcpStream, script: Arc<Mutex<Script>>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let Ok(read) = stream.read(&mut chunk).await else { return };
        request.extend_from_slice(&chunk[..read]);
        if read == 0 {
            return;
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let (head, body, delay) = {
            let mut script = script.lock().unwrap();
            script.asked.push(String::from_utf8_lossy(&request).to_lowercase());
            let head = format!(
                "HTTP/1.1 {} X\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
                script.status,
                script.content_type,
                script.body.len()
            );
            (head, script.body.clone(), script.delay)
        };
        request.clear();
        tokio::time::sleep(delay).await;
        if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
            return;
        }
    }
}

/// Keeps every sample by series.
#[derive(Debug, Default)]
struct Kept(Mutex<HashMap<String, Vec<(i64, f64)>>>);

impl SampleSink for Kept {
    fn append(&self, batch: &WriteBatch) -> Result<Appended, SourceError> {
        let mut kept = self.0.lock().unwrap();
        for series in &batch.series {
            let mut pairs: Vec<RawPair<'_>> = Vec::new();
            (batch.read_labels)(batch.raw_labels(series), &mut pairs).unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let labels = Labels::from_pairs(pairs.into_iter().map(|(n, v)| (text(n), text(v))));
            let name = labels.metric_name().unwrap_or("").to_owned();
            let shown = format!("{name}{}", labels.filter(|n| n != "__name__" && n != "instance"));
            let samples = batch.floats_of(series).iter().map(|f| (f.t_ms, f.value));
            kept.entry(shown).or_default().extend(samples);
        }
        Ok(Appended {
            floats: batch.floats.len() as u64,
            histograms: 0,
            exemplars: 0,
            created: 0,
            rejections: Vec::new(),
            rejected: 0,
            durable: Box::pin(async { Ok(()) }),
        })
    }
}

impl Kept {
    fn of(&self, series: &str) -> Vec<(i64, f64)> {
        self.0.lock().unwrap().get(series).cloned().unwrap_or_default()
    }

    fn last(&self, series: &str) -> Option<f64> {
        self.of(series).last().map(|(_, value)| *value)
    }

    fn ended(&self, series: &str) -> bool {
        self.last(series).is_some_and(is_stale)
    }
}

fn all_failed(world: &World) -> bool {
    let active = world.scraper.active();
    !active.is_empty() && active.iter().all(|target| target.last_error.is_some())
}

struct World {
    scraper: Scraper,
    kept: Arc<Kept>,
}

impl World {
    async fn with(jobs: &str) -> Self {
        Self::within(Arc::default(), jobs).await
    }

    async fn within(memory: Arc<Memory>, jobs: &str) -> Self {
        let kept = Arc::new(Kept::default());
        let scraper = Scraper::new(Arc::clone(&kept) as _, LiveLimits::default(), memory);
        let world = Self { scraper, kept };
        world.apply(jobs).await;
        world
    }

    async fn apply(&self, jobs: &str) {
        self.scraper.apply(read(jobs, Path::new("/"))).await;
    }

    /// Waits until something holds.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within ten seconds: {what}; {:?}, {:?}", self.scraper.active(), self.kept);
    }
}

fn read(jobs: &str, directory: &Path) -> Vec<config::Job> {
    let scrape_configs = serde_norway::from_str(jobs).unwrap();
    let sections = Sections { scrape_configs, ..Sections::default() };
    config::load(&sections, directory).unwrap()
}

fn job(target: &FakeTarget, fields: &str) -> String {
    format!(
        "[{{job_name: j, scrape_interval: 100ms, static_configs: [{{targets: ['{}']}}], {fields}}}]",
        target.address
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_scraped_and_what_it_exposes_no_more_ends() {
    let target = FakeTarget::start("# HELP a Help.\n# TYPE a gauge\na 1\nb 2\n").await;
    let world = World::with(&job(&target, "params: {x: [y]}, authorization: {credentials: s3cret}")).await;
    world.until("a first scrape", |w| w.kept.last("up{job=\"j\"}") == Some(1.0)).await;
    assert_eq!(world.kept.last("a{job=\"j\"}"), Some(1.0));
    assert_eq!(world.kept.last("scrape_samples_scraped{job=\"j\"}"), Some(2.0));
    let asked = target.asked().remove(0);
    for part in [
        "get /metrics?x=y http/1.1",
        "accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,",
        "accept-encoding: gzip",
        "x-prometheus-scrape-timeout-seconds: 0.1",
        "authorization: bearer s3cret",
        "user-agent: pilothouse/",
    ] {
        assert!(asked.contains(part), "{part} is not in {asked}");
    }
    let view = world.scraper.active().remove(0);
    assert_eq!((view.pool.as_str(), view.last_error, view.interval.as_str()), ("j", None, "100ms"));
    let metadata = world.scraper.metadata().remove(0).1;
    assert_eq!((metadata.len(), metadata[0].help.as_str()), (1, "Help."));
    target.expose("a 1\n");
    world.until("the end of b", |w| w.kept.ended("b{job=\"j\"}")).await;
    target.answer(503, "text/plain", b"");
    world.until("the end of a", |w| w.kept.ended("a{job=\"j\"}")).await;
    world.until("down", |w| w.kept.last("up{job=\"j\"}") == Some(0.0)).await;
    let error = world.scraper.active().remove(0).last_error.unwrap();
    assert!(error.starts_with("server returned HTTP status 503"), "{error}");
    target.expose("a 5\n");
    world.until("a again", |w| w.kept.last("a{job=\"j\"}") == Some(5.0)).await;
    world.scraper.drain().await;
    // No series ends because the process does, and no time comes twice or backwards.
    assert!(!world.kept.ended("a{job=\"j\"}"));
    let times: Vec<i64> = world.kept.of("up{job=\"j\"}").iter().map(|(t, _)| *t).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_why() {
    let target = FakeTarget::start("a 1\n").await;
    for (fields, content_type, body, why) in [
        ("body_size_limit: 3B", "text/plain", "a 1\n", "body size limit exceeded"),
        ("", "text/html", "a 1\n", "received unsupported Content-Type \"text/html\""),
        ("", "text/plain", "a b c\n", "line 1: invalid number \"b\""),
        ("", "application/openmetrics-text", "a 1\n", "data does not end with # EOF"),
        ("target_limit: 1", "text/plain", "a 1\n", ""),
        ("tls_config: {ca_file: /nowhere}", "text/plain", "a 1\n", "/nowhere"),
    ] {
        target.answer(200, content_type, body.as_bytes());
        let world = World::with(&job(&target, fields)).await;
        world.until(why, |w| !w.kept.of("up{job=\"j\"}").is_empty()).await;
        let error = world.scraper.active().remove(0).last_error.unwrap_or_default();
        assert!(error.contains(why) && error.is_empty() == why.is_empty(), "{fields}: {error}");
        world.scraper.drain().await;
    }
    let two = "[{job_name: j, scrape_interval: 100ms, target_limit: 1, static_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2']}]}]";
    let world = World::with(two).await;
    world.until("both", all_failed).await;
    let error = world.scraper.active().remove(0).last_error.unwrap();
    assert_eq!(error, "target_limit exceeded (number of targets: 2, limit: 1)");
    let world = World::with(&two.replace("target_limit: 1, ", "")).await;
    world.until("both", all_failed).await;
    let error = world.scraper.active().remove(0).last_error.unwrap();
    let why = "Get \"http://127.0.0.1:1/metrics\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(error, why);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_target_is_given_up_at_its_time_limit() {
    let target = FakeTarget::start("a 1\n").await;
    target.script.lock().unwrap().delay = Duration::from_secs(5);
    let world = World::with(&job(&target, "scrape_timeout: 50ms")).await;
    world.until("given up", all_failed).await;
    let error = world.scraper.active().remove(0).last_error.unwrap();
    assert!(error.ends_with("context deadline exceeded"), "{error}");
    assert_eq!(world.kept.last("up{job=\"j\"}"), Some(0.0));
    world.scraper.drain().await;
    // Who stops does not wait for it.
    let before = target.asked().len();
    let yaml = format!(
        "[{{job_name: slow, scrape_interval: 2s, static_configs: [{{targets: ['{}']}}]}}]",
        target.address
    );
    let world = World::with(&yaml).await;
    world.until("asked", |_| target.asked().len() > before).await;
    tokio::time::timeout(Duration::from_secs(1), world.scraper.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_in_files_come_and_go_and_the_others_stay() {
    let (one, two) = (FakeTarget::start("one 1\n").await, FakeTarget::start("two 2\n").await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.json");
    let list = |targets: &[&FakeTarget]| {
        let targets: Vec<&str> = targets.iter().map(|t| t.address.as_str()).collect();
        std::fs::write(&file, serde_json::json!([{"targets": targets}]).to_string()).unwrap();
    };
    list(&[&one, &two]);
    let yaml =
        "[{job_name: j, scrape_interval: 100ms, file_sd_configs: [{files: [t.json], refresh_interval: 1s}]}]";
    let world = World::with("[]").await;
    world.scraper.apply(read(yaml, directory.path())).await;
    world.until("both", |w| w.kept.last("one{job=\"j\"}").and(w.kept.last("two{job=\"j\"}")).is_some()).await;
    list(&[&one]);
    world.until("two ends", |w| w.kept.ended("two{job=\"j\"}")).await;
    assert_eq!(world.scraper.active().len(), 1);
    assert!(!world.kept.ended("one{job=\"j\"}"));
    let found = world.scraper.active().remove(0).discovered.value("__meta_filepath").to_owned();
    assert_eq!(found, file.display().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_names_targets() {
    let target = FakeTarget::start("a 1\n").await;
    let endpoint = FakeTarget::start("").await;
    let list = serde_json::json!([{"targets": [target.address], "labels": {"site": "x"}}]).to_string();
    endpoint.answer(200, "application/json; charset=utf-8", list.as_bytes());
    let yaml = format!(
        "[{{job_name: j, scrape_interval: 100ms, http_sd_configs: [{{url: 'http://{}/sd', refresh_interval: 1s}}]}}]",
        endpoint.address
    );
    let world = World::with(&yaml).await;
    let series = "a{job=\"j\", site=\"x\"}";
    world.until("a scrape", |w| w.kept.last(series).is_some()).await;
    let asked = endpoint.asked().remove(0);
    assert!(
        asked.contains("x-prometheus-refresh-interval-seconds: 1\r\n")
            && asked.contains("accept: application/json")
    );
    // What it said last stays while it fails.
    endpoint.answer(500, "text/plain", b"");
    let before = endpoint.asked().len();
    world.until("asked again", |_| endpoint.asked().len() > before).await;
    assert_eq!(world.scraper.active().len(), 1);
    endpoint.answer(200, "application/json", b"[]");
    world.until("nothing left", |w| w.scraper.active().is_empty()).await;
    world.until("the end", |w| w.kept.ended(series)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_leaves_no_gap() {
    let (same, other) =
        (FakeTarget::start("same 1\nsoon_dropped 1\n").await, FakeTarget::start("other 1\n").await);
    let jobs = |rules: &str| {
        format!(
            "[{{job_name: stays, scrape_interval: 100ms, static_configs: [{{targets: ['{}']}}]}}, \
             {{job_name: changes, scrape_interval: 100ms, static_configs: [{{targets: ['{}']}}], {rules}}}]",
            other.address, same.address
        )
    };
    let world = World::with(&jobs("")).await;
    let series = "same{job=\"changes\"}";
    let dropped = "soon_dropped{job=\"changes\"}";
    world.until("a scrape", |w| w.kept.last(series).and(w.kept.last("other{job=\"stays\"}")).is_some()).await;
    let connections = other.asked().len();
    world
        .apply(&jobs("metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: soon.*}]"))
        .await;
    // The new owner ends what only the old one wrote.
    world.until("the end of what is dropped now", |w| w.kept.ended(dropped)).await;
    assert!(world.kept.of(series).iter().all(|(_, value)| !is_stale(*value)));
    assert!(world.kept.of("up{job=\"changes\"}").iter().all(|(_, value)| !is_stale(*value)));
    world.until("the other goes on", |_| other.asked().len() > connections).await;
    assert!(world.kept.of("other{job=\"stays\"}").iter().all(|(_, value)| !is_stale(*value)));
    assert_eq!(world.scraper.pools(), ["changes", "stays"]);
    world.apply("[]").await;
    world.until("the end of all", |w| w.kept.ended(series) && w.kept.ended("up{job=\"stays\"}")).await;
    assert!(world.scraper.active().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_targets_are_counted_and_some_kept() {
    let yaml = "[{job_name: j, keep_dropped_targets: 1, relabel_configs: [{action: drop, source_labels: [__address__], regex: 'a.*'}], \
                 static_configs: [{targets: ['a1:1', 'a2:1', 'b:1', 'b:1']}]}]";
    let world = World::with(yaml).await;
    world.until("found", |w| w.scraper.active().len() == 1).await;
    let dropped = world.scraper.dropped().remove(0);
    assert_eq!((dropped.pool.as_str(), dropped.discovered.len(), dropped.count), ("j", 1, 2));
    let view = world.scraper.active().remove(0);
    assert_eq!((view.last_scrape_ms, view.labels.value("instance")), (None, "b:1"));
}

/// Of a target whose body finds no room nothing is said, least of all that it is down; small bodies
/// are taken still, and all is as before once there is room.
#[tokio::test(flavor = "multi_thread")]
async fn scrapes_that_find_no_room_are_left_out() {
    let (large, small) = (FakeTarget::start("").await, FakeTarget::start("b 1\n").await);
    large.expose(&(0..20_000).map(|i| format!("a{{i=\"{i}\"}} 1\n")).collect::<String>());
    let job = |name: &str, target: &FakeTarget| {
        format!(
            "{{job_name: {name}, scrape_interval: 50ms, static_configs: [{{targets: ['{}']}}]}}",
            target.address
        )
    };
    let memory = Arc::new(Memory::limited(64 << 20));
    memory.set(&[], 60 << 20);
    let jobs = format!("[{}, {}]", job("large", &large), job("small", &small));
    let world = World::within(Arc::clone(&memory), &jobs).await;
    let left_out = |w: &World| w.scraper.stats().left_out.load(Relaxed);
    world.until("some are left out", |w| left_out(w) > 2 && w.kept.last("b{job=\"small\"}").is_some()).await;
    assert_eq!(world.kept.last("up{job=\"large\"}"), None);
    let errors =
        world.scraper.active().into_iter().filter_map(|target| target.last_error).collect::<Vec<_>>();
    assert!(matches!(&errors[..], [error] if error.contains("memory limit")), "{errors:?}");
    memory.set(&[], 0);
    world.until("there is room", |w| w.kept.last("up{job=\"large\"}") == Some(1.0)).await;
    world.until("its series are counted", |_| memory.held_bytes(Part::Targets) > 20_000 * 64).await;
    world.scraper.apply(Vec::new()).await;
    world.until("nothing stays", |_| memory.held_bytes(Part::Targets) == 0).await;
    world.scraper.drain().await;
    assert_eq!(memory.held_bytes(Part::Requests), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_jobs_together_have_so_many_targets() {
    let limits = Limits { max_scrape_targets: 3, ..Limits::default() };
    let scraper = Scraper::new(Arc::new(Kept::default()), limits.into(), Arc::default());
    let job = |name: &str| {
        format!("{{job_name: {name}, static_configs: [{{targets: ['{name}1:1', '{name}2:1']}}]}}")
    };
    scraper.apply(read(&format!("[{}, {}]", job("a"), job("b")), Path::new("/"))).await;
    assert_eq!(scraper.active().len(), 3);
    scraper.apply(read(&format!("[{}]", job("b")), Path::new("/"))).await;
    scraper.apply(read(&format!("[{}, {}]", job("b"), job("c")), Path::new("/"))).await;
    assert_eq!(scraper.active().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_local_needs_no_request() {
    let kept = Arc::new(Kept::default());
    let calls = Mutex::new(0);
    let collect = move || {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        if *calls == 1 { "a 1\nb 1\n".to_owned() } else { "a 2\n".to_owned() }
    };
    let local =
        LocalTarget::new("own", "i", Arc::clone(&kept) as _, LiveLimits::default(), Box::new(collect));
    local.once().await;
    assert_eq!((kept.last("a{job=\"own\"}"), kept.last("up{job=\"own\"}")), (Some(1.0), Some(1.0)));
    tokio::time::sleep(Duration::from_millis(2)).await;
    local.once().await;
    assert!(kept.ended("b{job=\"own\"}") && kept.last("a{job=\"own\"}") == Some(2.0));
}
