use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::asked::Asked;

/// A server of buckets in memory, as much of S3's API as a backup calls: objects with conditions and
/// ranges, uploads in parts, listings page by page. It asks for a signature and does not check it.
#[derive(Debug)]
pub struct BucketServer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By `/bucket/key`.
    objects: BTreeMap<String, Vec<u8>>,
    /// Parts by upload.
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    next_upload: u64,
    /// Requests that write; from `refuse_after` on they are refused.
    writes: usize,
    refuse_after: Option<usize>,
    /// So many requests are answered 503 first.
    busy: usize,
    largest_body: usize,
    parts: usize,
}

impl BucketServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // Ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || while answer(&stream, &state).is_some() {});
            }
        });
        Self { address, state }
    }

    /// The variables under which a backup finds it.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_REGION", "fr-par".to_owned()),
        ]
    }

    /// Refuses everything that writes after so many more of such requests; `None` lets all pass.
    pub fn refuse_after(&self, writes: Option<usize>) {
        let mut state = self.state.lock().unwrap();
        state.refuse_after = writes.map(|writes| state.writes + writes);
    }

    /// Answers that it is busy to the next requests.
    pub fn be_busy(&self, requests: usize) {
        self.state.lock().unwrap().busy = requests;
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Changes a byte in the middle of an object.
    pub fn flip(&self, key: &str) {
        let mut state = self.state.lock().unwrap();
        let object = state.objects.get_mut(key).unwrap();
        let middle = object.len() / 2;
        object[middle] ^= 1;
    }

    /// Uploads that are neither finished nor given up, parts that came, and the largest body.
    pub fn figures(&self) -> (usize, usize, usize) {
        let state = self.state.lock().unwrap();
        (state.uploads.len(), state.parts, state.largest_body)
    }
}

type Reply = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn answer(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let asked = Asked::read(stream)?;
    let (status, headers, body) = reply(&asked, &mut state.lock().unwrap());
    asked.answer(stream, status, &headers, &body)
}

fn reply(asked: &Asked, state: &mut State) -> Reply {
    let signed =
        asked.headers.get("authorization").is_some_and(|a| a.starts_with("AWS4-HMAC-SHA256 Credential=key/"));
    if !signed {
        return error(403, "AccessDenied");
    }
    if state.busy > 0 {
        state.busy -= 1;
        return error(503, "SlowDown");
    }
    if asked.method != "GET" && asked.method != "HEAD" {
        state.writes += 1;
        if state.refuse_after.is_some_and(|last| state.writes > last) {
            return error(403, "AccessDenied");
        }
    }
    state.largest_body = state.largest_body.max(asked.body.len());
    let upload = asked.query.get("uploadId");
    match (asked.method.as_str(), upload) {
        ("GET", _) if asked.query.contains_key("list-type") => list(asked, state),
        ("GET" | "HEAD", _) => get(asked, state),
        ("POST", None) if asked.query.contains_key("uploads") => {
            state.next_upload += 1;
            let id = format!("upload-{}", state.next_upload);
            state.uploads.insert(id.clone(), BTreeMap::new());
            let ids = format!("<Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId>");
            xml(200, &format!("<InitiateMultipartUploadResult>{ids}</InitiateMultipartUploadResult>"))
        }
        ("PUT", Some(id)) => {
            let number = asked.query["partNumber"].parse().unwrap();
            let Some(parts) = state.uploads.get_mut(id) else { return error(404, "NoSuchUpload") };
            parts.insert(number, asked.body.clone());
            state.parts += 1;
            (200, vec![("ETag", format!("\"{number}\""))], Vec::new())
        }
        ("POST", Some(id)) => {
            let Some(parts) = state.uploads.remove(id) else { return error(404, "NoSuchUpload") };
            // All parts but the last have a least size.
            let sizes: Vec<usize> = parts.values().map(Vec::len).collect();
            assert!(sizes[..sizes.len() - 1].iter().all(|size| *size >= 5 << 20), "{sizes:?}");
            state.objects.insert(asked.path.clone(), parts.into_values().flatten().collect());
            let about = "<Location>l</Location><Bucket>b</Bucket><Key>k</Key><ETag>\"whole\"</ETag>";
            xml(200, &format!("<CompleteMultipartUploadResult>{about}</CompleteMultipartUploadResult>"))
        }
        ("DELETE", Some(id)) => {
            state.uploads.remove(id);
            (204, Vec::new(), Vec::new())
        }
        ("PUT", None) => put(asked, state),
        ("DELETE", None) => {
            state.objects.remove(&asked.path);
            (204, Vec::new(), Vec::new())
        }
        _ => error(405, "MethodNotAllowed"),
    }
}

/// Good enough to tell two contents apart.
fn e_tag(object: &[u8]) -> String {
    let sum = object.iter().fold(17u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("\"{sum:016x}\"")
}

fn put(asked: &Asked, state: &mut State) -> Reply {
    let there = state.objects.get(&asked.path);
    let only_new = asked.headers.contains_key("if-none-match") && there.is_some();
    let wanted = asked.headers.get("if-match");
    if only_new || wanted.is_some() && wanted != there.map(|object| e_tag(object)).as_ref() {
        return error(412, "PreconditionFailed");
    }
    state.objects.insert(asked.path.clone(), asked.body.clone());
    (200, vec![("ETag", e_tag(&asked.body))], Vec::new())
}

fn get(asked: &Asked, state: &State) -> Reply {
    let Some(object) = state.objects.get(&asked.path) else { return error(404, "NoSuchKey") };
    let mut headers =
        vec![("ETag", e_tag(object)), ("Last-Modified", "Sun, 22 Nov 2026 12:00:00 GMT".to_owned())];
    let range = asked.headers.get("range").map(|text| {
        let (from, to) = text.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        (from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap().min(object.len() - 1))
    });
    let Some((from, to)) = range else {
        headers.push(("Content-Length", object.len().to_string()));
        return (200, headers, object.clone());
    };
    headers.push(("Content-Range", format!("bytes {from}-{to}/{}", object.len())));
    (206, headers, object[from..=to].to_vec())
}

/// Three keys a page, so that there are several.
fn list(asked: &Asked, state: &State) -> Reply {
    let bucket = format!("{}/", asked.path.trim_end_matches('/'));
    let text = |name: &str| asked.query.get(name).cloned().unwrap_or_default();
    let (prefix, delimiter, after) = (text("prefix"), text("delimiter"), text("continuation-token"));
    let (mut found, mut prefixes) = (Vec::new(), BTreeSet::new());
    for (path, object) in &state.objects {
        let Some(key) = path.strip_prefix(&bucket).filter(|key| key.starts_with(&prefix)) else { continue };
        match key[prefix.len()..].find(&delimiter).filter(|_| !delimiter.is_empty()) {
            Some(end) => drop(prefixes.insert(key[..=prefix.len() + end].to_owned())),
            None if key > after.as_str() => found.push((key, object)),
            None => {}
        }
    }
    let mut out = "<ListBucketResult>".to_owned();
    for (key, object) in found.iter().take(3) {
        let (tag, size) = (e_tag(object), object.len());
        let _ = write!(
            out,
            "<Contents><Key>{key}</Key><LastModified>2026-11-22T12:00:00.000Z</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>"
        );
    }
    for prefix in prefixes {
        let _ = write!(out, "<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>");
    }
    if let Some((last, _)) = found.get(2).filter(|_| found.len() > 3) {
        let _ = write!(
            out,
            "<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"
        );
    }
    out.push_str("</ListBucketResult>");
    xml(200, &out)
}

fn error(status: u16, code: &str) -> Reply {
    xml(status, &format!("<Error><Code>{code}</Code><Message>said so</Message></Error>"))
}

fn xml(status: u16, text: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{text}").into_bytes();
    (status, vec![("Content-Type", "application/xml".to_owned())], body)
}
