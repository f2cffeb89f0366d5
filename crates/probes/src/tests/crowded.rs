//! A server that is short of memory says nothing of targets whose answers find no room.

use std::sync::Arc;
use std::time::Duration;

use pilothouse_model::Memory;
use pilothouse_model::limits::LiveLimits;
use pilothouse_model::memory::Part;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::probe::{LocalProber, TargetRules};
use crate::run::{Prober as _, Recorder, Target, Verdict};
use crate::words::{CheckSettings, read_json};

/// The address of a target that gives one answer.
async fn target(headers: &str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let head =
        format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            // Who has no room hangs up.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
    format!("http://{address}/")
}

fn multihttp(url: &str, also: Value) -> Value {
    let mut entry = json!({"request": {"url": url}});
    entry.as_object_mut().unwrap().extend(also.as_object().unwrap().clone());
    json!({"multihttp": {"entries": [entry]}})
}

async fn verdict(memory: &Arc<Memory>, url: &str, settings: Value) -> Verdict {
    let prober = LocalProber::new(TargetRules::default(), LiveLimits::default(), Arc::clone(memory));
    let settings: CheckSettings = read_json(settings.to_string().as_bytes()).unwrap();
    let timeout = Duration::from_secs(10);
    let target = Target { target: url, settings: &settings, timeout, run_by: String::new() };
    let mut recorder = Recorder::default();
    let probed = prober.probe(&target, &mut recorder).await;
    recorder.finish(probed, timeout).verdict
}

fn gzip(text: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Small answers are read still; of the others nothing is known until there is room again.
#[tokio::test]
async fn what_finds_no_room_is_left_out() {
    let long = target("", vec![b'x'; 1 << 20]).await;
    let short = target("", b"[1]".to_vec()).await;
    let grows = target("content-encoding: gzip\r\n", gzip(&vec![b'x'; 4 << 20])).await;
    let tree = target("", format!("[{}]", ["[]"; 20_000].join(",")).into_bytes()).await;
    let page = target("", "<p>".repeat(20_000).into_bytes()).await;
    let garbled = target("", vec![0xff; 60_000]).await;
    let finds = json!({"failIfBodyNotMatchesRegexp": ["[^a]"]});
    let unzips = json!({"compression": "gzip", "failIfBodyNotMatchesRegexp": ["x"]});
    let asserts = json!({"checks": [{"type": 2, "expression": "$[0]"}]});
    let selects = json!({"variables": [{"type": 2, "name": "v", "expression": "p"}]});
    for (url, settings, crowded) in [
        (&long, json!({"http": {}}), Verdict::LeftOut),
        (&short, json!({"http": {}}), Verdict::Good),
        (&grows, json!({"http": unzips}), Verdict::LeftOut),
        (&garbled, json!({"http": finds}), Verdict::LeftOut),
        (&long, multihttp(&long, json!({})), Verdict::LeftOut),
        (&short, multihttp(&short, asserts.clone()), Verdict::Good),
        (&tree, multihttp(&tree, asserts), Verdict::LeftOut),
        (&page, multihttp(&page, selects), Verdict::LeftOut),
    ] {
        let memory = Arc::new(Memory::limited(64 << 20));
        memory.set(&[], 60 << 20);
        assert_eq!(verdict(&memory, url, settings.clone()).await, crowded, "{settings}");
        assert_eq!(memory.held_bytes(Part::Requests), 0, "{settings}");
        memory.set(&[], 0);
        assert_eq!(verdict(&memory, url, settings.clone()).await, Verdict::Good, "{settings}");
        assert_eq!(memory.held_bytes(Part::Requests), 0, "{settings}");
    }
}
