//! The service at its end: calls under way are waited for, though not for ever, and what was told
//! is not told again after the next start.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pilothouse_model::limits::Limits;
use pilothouse_model::ports::SystemClock;
use pilothouse_model::state::MemoryState;
use pilothouse_model::{Alert, Labels};
use tokio::runtime::Runtime;

use crate::{Alertmanager, Options};

/// Far more than any wait here, on a busy machine too.
const LONGEST: Duration = Duration::from_secs(60);
/// More than two looks at a group.
const QUIET: Duration = Duration::from_millis(2_500);

/// A webhook that answers half a second late, or not at all as long as it hangs.
struct Hook {
    url: String,
    asked: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let hook = Self { url, asked: Arc::default(), hangs: Arc::default() };
        let (asked, hangs) = (Arc::clone(&hook.asked), Arc::clone(&hook.hangs));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, hangs) = (Arc::clone(&asked), Arc::clone(&hangs));
                std::thread::spawn(move || answer(stream, &asked, &hangs));
            }
        });
        hook
    }

    fn wait_for(&self, count: usize) {
        let began = Instant::now();
        while self.asked.load(SeqCst) < count {
            assert!(began.elapsed() < LONGEST, "{count} calls");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn answer(mut stream: TcpStream, asked: &AtomicUsize, hangs: &AtomicBool) {
    let (mut body, mut part) = (Vec::new(), [0; 4096]);
    while !body.ends_with(b"}\n") {
        match stream.read(&mut part) {
            Ok(read @ 1..) => body.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let hangs = hangs.load(SeqCst);
    asked.fetch_add(1, SeqCst);
    if hangs {
        // Until the other side is gone.
        let _ = stream.read(&mut part);
        return;
    }
    std::thread::sleep(Duration::from_millis(500));
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

/// What a server is started with again and again.
struct Machine {
    runtime: Runtime,
    store: Arc<MemoryState>,
    config: tempfile::NamedTempFile,
}

impl Machine {
    fn new(hook: &Hook) -> Self {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        writeln!(
            config,
            "route: {{receiver: a, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\nreceivers: [{{name: a, webhook_configs: [{{url: '{}'}}]}}]",
            hook.url
        )
        .unwrap();
        Self { runtime: Runtime::new().unwrap(), store: Arc::default(), config }
    }

    fn start(&self) -> Alertmanager {
        let options = Options {
            limits: Limits::default().into(),
            memory: Arc::default(),
            external_url: "http://am".to_owned(),
            config_file: Some(self.config.path().to_owned()),
            heartbeat_url: None,
            mail: None,
        };
        let (store, clock) = (Arc::clone(&self.store), Arc::new(SystemClock));
        Alertmanager::spawn(options, store, clock, self.runtime.handle().clone()).unwrap()
    }
}

fn fire(alertmanager: &Alertmanager) {
    let labels = Labels::from_pairs([("alertname", "Down")]);
    let (annotations, generator_url) = (BTreeMap::new(), String::new());
    let alert = Alert { labels, annotations, starts_at_ms: 0, ends_at_ms: 0, generator_url };
    alertmanager.put(&[alert]).unwrap();
}

#[test]
fn a_call_under_way_is_waited_for_and_not_made_again() {
    let hook = Hook::start();
    let machine = Machine::new(&hook);
    let first = machine.start();
    fire(&first);
    hook.wait_for(1);
    first.drain();
    let second = machine.start();
    std::thread::sleep(QUIET);
    assert_eq!(hook.asked.load(SeqCst), 1, "it was told before the end");
    second.drain();
}

#[test]
fn a_call_that_hangs_holds_up_no_end_and_is_made_again() {
    let hook = Hook::start();
    hook.hangs.store(true, SeqCst);
    let machine = Machine::new(&hook);
    let first = machine.start();
    fire(&first);
    hook.wait_for(1);
    let began = Instant::now();
    first.drain();
    assert!(began.elapsed() < LONGEST / 2, "{:?}", began.elapsed());
    hook.hangs.store(false, SeqCst);
    let second = machine.start();
    hook.wait_for(2);
    std::thread::sleep(QUIET);
    assert_eq!(hook.asked.load(SeqCst), 2, "once by the second");
    second.drain();
}
