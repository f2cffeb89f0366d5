//! The number of series that a class is said to make is the number that a run makes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilothouse_model::limits::LiveLimits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::state::MemoryState;
use pilothouse_model::{Labels, LogBatch, SourceError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::few;
use crate::probe::{LocalProber, TargetRules};
use crate::registry::{BUILTIN_PROBE, Registry, RegistrySettings};
use crate::run::{Publisher, ResultSink, Schedule, accounting_classes};
use crate::words::{Check, Probe, read_json};

/// The labels of all samples, by job.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Labels>>);

impl ResultSink for Seen {
    fn series(&self, _: i64, samples: &[(Labels, i64, f64)]) -> Result<(), SourceError> {
        self.0.lock().unwrap().extend(samples.iter().map(|(labels, _, _)| labels.clone()));
        Ok(())
    }

    fn entries(&self, _: i64, _: &[LogBatch]) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Answers whatever it is asked over TCP as a web server does, and over UDP with an empty answer.
async fn target() -> (String, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            });
        }
    });
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut bytes = [0; 512];
        while let Ok((read, from)) = socket.recv_from(&mut bytes).await {
            bytes[2] |= 0x80;
            let _ = socket.send_to(&bytes[..read], from).await;
        }
    });
    (web, port)
}

fn checks(web: &str, port: u16) -> Vec<Check> {
    let dns = format!(r#"{{"dns": {{"server": "127.0.0.1", "port": {port}, "protocol": "UDP"}}}}"#);
    let kinds = [
        ("http", format!("http://{web}/"), r#"{"http": {}}"#),
        ("tcp", web.to_owned(), r#"{"tcp": {}}"#),
        ("grpc", web.to_owned(), r#"{"grpc": {}}"#),
        ("dns", "a.b".to_owned(), dns.as_str()),
    ];
    let both = kinds.iter().flat_map(|(kind, target, settings)| {
        [(format!("{kind}_basic"), true), ((*kind).to_owned(), false)].map(|(job, basic)| Check {
            job,
            target: target.clone(),
            frequency: 1_000,
            timeout: 1_000,
            offset: 1,
            enabled: true,
            basic_metrics_only: basic,
            probes: vec![BUILTIN_PROBE],
            settings: Some(read_json(settings.as_bytes()).unwrap()),
            ..Check::default()
        })
    });
    both.collect()
}

#[tokio::test]
async fn classes_count_what_runs_make() {
    let memory = Arc::default();
    let settings = RegistrySettings {
        builtin: Probe { name: "local".into(), ..Probe::default() },
        limits: few(10),
        memory: Arc::clone(&memory),
    };
    let registry = Registry::open(settings, Arc::<MemoryState>::default(), Arc::new(SystemClock)).unwrap();
    let (registry, seen) = (Arc::new(registry), Arc::<Seen>::default());
    let tenant = registry.install(1, 1, 1, Default::default).unwrap().tenant;
    let (web, port) = target().await;
    for check in checks(&web, port) {
        registry.add_check(tenant, check).unwrap();
    }
    let publisher = Publisher::start(Arc::clone(&seen) as Arc<dyn ResultSink>, 100, &memory).unwrap();
    let prober = Arc::new(LocalProber::new(TargetRules::default(), LiveLimits::default(), Arc::default()));
    let runtime = tokio::runtime::Handle::current();
    let schedule = Arc::new(Schedule::new(registry, prober, publisher.clone(), 10, runtime));
    let stats = schedule.stats();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(schedule.run(stopped));
    while stats.lateness.counts().count() < 8 || stats.running.load(std::sync::atomic::Ordering::Relaxed) > 0
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(true).unwrap();
    running.await.unwrap();
    publisher.drain();
    let mut labels = std::mem::take(&mut *seen.0.lock().unwrap());
    labels.sort();
    labels.dedup();
    for class in accounting_classes() {
        let made = labels.iter().filter(|labels| labels.value("job") == class.name).count();
        assert!(made == 0 || made == class.series, "{}: {made}, not {}", class.name, class.series);
    }
}
