//! The whole way of a request about logs, over entries in memory.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::tests::{Fixture, NOW_S};
use pilothouse_model::limits::Limits;

const NOW_NS: i64 = NOW_S * 1_000_000_000;

fn fixture() -> Fixture {
    Fixture::new()
}

/// What may not stand in a URI as it is.
fn encoded(path: &str) -> String {
    path.chars().fold(String::new(), |mut out, c| {
        match c {
            ' ' | '"' | '{' | '}' | '<' | '>' | '|' | '`' => out.push_str(&format!("%{:02X}", c as u32)),
            c => out.push(c),
        }
        out
    })
}

async fn get(fixture: &Fixture, path: &str) -> (u16, String) {
    fixture.get(&encoded(path)).await
}

/// Labels and entries.
type Stream<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, &'a str)]);

fn push_body(streams: &[Stream<'_>]) -> String {
    let streams: Vec<Value> = streams
        .iter()
        .map(|(labels, entries)| {
            let stream: serde_json::Map<String, Value> =
                labels.iter().map(|(n, v)| ((*n).to_owned(), json!(v))).collect();
            let values: Vec<Value> = entries.iter().map(|(t, line)| json!([t.to_string(), line])).collect();
            json!({ "stream": stream, "values": values })
        })
        .collect();
    json!({ "streams": streams }).to_string()
}

async fn post(
    fixture: &Fixture,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> (http::response::Parts, String) {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, body) = fixture.send(request.body(body.into()).unwrap()).await;
    (parts, String::from_utf8_lossy(&body).into_owned())
}

async fn push(fixture: &Fixture, streams: &[Stream<'_>]) -> (u16, String) {
    let json = [("content-type", "application/json")];
    let (parts, text) = post(fixture, "/loki/api/v1/push", &json, push_body(streams)).await;
    (parts.status.as_u16(), text)
}

async fn filled() -> Fixture {
    let fixture = fixture();
    let streams: &[Stream<'_>] = &[
        (&[("app", "shop"), ("pod", "1")], &[(NOW_NS - 3, "level=info a"), (NOW_NS - 2, "level=error b")]),
        (&[("app", "shop"), ("pod", "2")], &[(NOW_NS - 1, "level=info c")]),
        (&[("app", "bank")], &[(NOW_NS - 10, "d")]),
    ];
    assert_eq!(push(&fixture, streams).await, (204, String::new()));
    fixture
}

async fn get_json(fixture: &Fixture, path: &str) -> Value {
    let (status, body) = get(fixture, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
}

fn lines(answer: &Value) -> Vec<String> {
    let streams = answer["data"]["result"].as_array().unwrap();
    let values = streams.iter().flat_map(|s| s["values"].as_array().unwrap());
    values.map(|v| v[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_was_pushed_is_found_at_once() {
    let fixture = filled().await;
    let answer = get_json(&fixture, "/loki/api/v1/query_range?query={app=\"shop\"}").await;
    assert_eq!(lines(&answer), ["level=info c", "level=error b", "level=info a"]);
    assert_eq!(answer["data"]["result"][0]["stream"]["service_name"], "shop");
    assert_eq!(answer["data"]["stats"]["summary"]["totalEntriesReturned"], 3);
    let path = "/loki/api/v1/query_range?query={app=\"shop\"}&limit=2&direction=forward";
    assert_eq!(lines(&get_json(&fixture, path).await), ["level=info a", "level=error b"]);
    let instant =
        get_json(&fixture, "/loki/api/v1/query?query=sum(count_over_time({app=\"shop\"}[1m]))").await;
    assert_eq!(instant["data"]["result"][0]["value"][1], "3");
    let probe = get_json(&fixture, "/loki/api/v1/query?query=vector(1)%2Bvector(1)&time=4000000000").await;
    assert_eq!(probe["data"]["resultType"], "vector");
    assert_eq!(probe["data"]["result"], json!([{ "metric": {}, "value": [4_000_000_000_i64, "2"] }]));
}

#[tokio::test]
async fn labels_may_come_sorted_by_where_they_are_from() {
    let fixture = filled().await;
    let request = Request::get(encoded("/loki/api/v1/query_range?query={app=\"bank\"}"))
        .header("X-Loki-Response-Encoding-Flags", "categorize-labels");
    let (_, body) = fixture.send(request.body(Body::empty()).unwrap()).await;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["data"]["encodingFlags"], json!(["categorize-labels"]));
    let stream = &answer["data"]["result"][0];
    assert_eq!(stream["stream"], json!({ "app": "bank", "service_name": "bank" }));
    assert_eq!(stream["values"][0][2], json!({ "structuredMetadata": { "detected_level": "unknown" } }));
}

#[tokio::test]
async fn streams_are_listed() {
    let fixture = filled().await;
    for (path, expected) in [
        ("labels", json!({ "status": "success", "data": ["app", "pod", "service_name"] })),
        ("label?query={app=\"bank\"}", json!({ "status": "success", "data": ["app", "service_name"] })),
        ("label/app/values", json!({ "status": "success", "data": ["bank", "shop"] })),
        ("label/nope/values", json!({ "status": "success" })),
        (
            "series?match[]={pod=\"2\"}&match={pod=\"2\"}",
            json!({ "status": "success", "data": [{ "app": "shop", "pod": "2", "service_name": "shop" }] }),
        ),
        ("series?match[]={app=\"no\"}", json!({ "status": "success", "data": [] })),
        ("index/stats?query={app=\"shop\"}", json!({ "streams": 2, "chunks": 2, "bytes": 37, "entries": 3 })),
        (
            "detected_labels?query={app=\"shop\"}",
            json!({ "detectedLabels": [
                { "label": "app", "cardinality": 1 },
                { "label": "pod", "cardinality": 2 },
                { "label": "service_name", "cardinality": 1 },
            ] }),
        ),
    ] {
        assert_eq!(get_json(&fixture, &format!("/loki/api/v1/{path}")).await, expected, "{path}");
    }
    let all = get_json(&fixture, "/loki/api/v1/series").await;
    assert_eq!(all["data"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn volumes_are_added_up() {
    let fixture = filled().await;
    let volumes = |answer: &Value| -> Vec<(Value, Value)> {
        let result = answer["data"]["result"].as_array().unwrap();
        result.iter().map(|r| (r["metric"].clone(), r["value"][1].clone())).collect()
    };
    // Lines and `detected_level` with its value.
    let by_app = get_json(&fixture, "/loki/api/v1/index/volume?query={app=~\".%2B\"}").await;
    assert_eq!(by_app["data"]["resultType"], "vector");
    assert_eq!(
        volumes(&by_app),
        [(json!({ "app": "shop" }), json!("92")), (json!({ "app": "bank" }), json!("22"))]
    );
    let by_pod = get_json(&fixture, "/loki/api/v1/index/volume?query={}&targetLabels=pod&limit=1").await;
    assert_eq!(volumes(&by_pod), [(json!({ "pod": "1" }), json!("62"))]);
    let by_name = get_json(&fixture, "/loki/api/v1/index/volume?query={pod=\"2\"}&aggregateBy=labels").await;
    assert_eq!(volumes(&by_name).len(), 3);
    assert!(volumes(&by_name).contains(&(json!({ "pod": "" }), json!("30"))));
    let path = "/loki/api/v1/index/volume_range?query={app=\"shop\"}&step=60&start=1699999000";
    let ranged = get_json(&fixture, path).await;
    assert_eq!(ranged["data"]["resultType"], "matrix");
    assert_eq!(ranged["data"]["result"][0]["values"], json!([[NOW_S, "92"]]));
    let whole = get_json(&fixture, &path.replace("step=60", "step=86400")).await;
    assert_eq!(whole["data"]["result"][0]["value"], json!([NOW_S, "92"]));
}

/// Answers in protobuf, as text: bytes that are no letters as Rust escapes them.
#[tokio::test]
async fn who_accepts_protobuf_alone_gets_it() {
    let fixture = filled().await;
    for (path, expected) in [
        ("labels", r#"\n\x00\x1a!\n\x07success\x12\x03app\x12\x03pod\x12\x0cservice_name"#),
        ("label/app/values", r#"\n\x00\x1a\x15\n\x07success\x12\x04bank\x12\x04shop"#),
        (
            "series?match[]={app=\"bank\"}",
            r#"\n\x00\x12.\n\x07success\x12#\n\x0b\n\x03app\x12\x04bank\n\x14\n\x0cservice_name\x12\x04bank"#,
        ),
        ("index/stats?query={app=\"shop\"}", r#"\n\x00\"\n\n\x08\x08\x02\x10\x02\x18% \x03"#),
        ("detected_labels?query={app=\"none\"}", r#"\n\x00j\x02\n\x00"#),
        (
            "detected_field/level/values?query={app=\"shop\"}",
            r#"\n\x00Z\x12\n\x10\x10\xe8\x07\x1a\x05error\x1a\x04info"#,
        ),
    ] {
        let (headers, body) = accepting(&fixture, path, "application/vnd.google.protobuf").await;
        assert_eq!(headers["content-type"], "application/vnd.google.protobuf", "{path}");
        assert_eq!(body.escape_ascii().to_string(), expected, "{path}");
    }
    for path in
        ["query_range?query={app=\"shop\"}", "query?query=vector(1)", "index/volume?query={app=\"shop\"}"]
    {
        let (_, body) = accepting(&fixture, path, "application/vnd.google.protobuf").await;
        assert!(body.starts_with(b"\n\0"), "{path}");
        for other in ["application/vnd.google.protobuf, */*", "application/protobuf", "*/*"] {
            let (headers, _) = accepting(&fixture, path, other).await;
            assert_eq!(headers["content-type"], "application/json; charset=UTF-8", "{path} {other}");
        }
    }
}

async fn accepting(fixture: &Fixture, path: &str, accept: &str) -> (http::HeaderMap, Vec<u8>) {
    let request = Request::get(encoded(&format!("/loki/api/v1/{path}"))).header("accept", accept);
    let (parts, body) = fixture.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(parts.status, 200, "{path}");
    (parts.headers, body.to_vec())
}

/// As Go's servers: a pair that cannot be read refuses the question, and only a question.
#[tokio::test]
async fn broken_escapes_refuse_a_question() {
    let fixture = filled().await;
    for (path, refused) in [
        ("/loki/api/v1/query?query=vector(1)&a=%zz", Some("invalid URL escape \"%zz\"")),
        ("/loki/api/v1/labels?a=%4", Some("invalid URL escape \"%4\"")),
        ("/loki/api/v1/series?a=1;b=2", Some("invalid semicolon separator in query")),
        ("/api/prom/query?query=%&limit=%zz", Some("invalid URL escape \"%\"")),
        ("/loki/api/v1/drilldown-limits?a=%zz", None),
    ] {
        let (status, text) = fixture.get(path).await;
        match refused {
            Some(why) => assert_eq!((status, text.as_str()), (400, why), "{path}"),
            None => assert_eq!(status, 200, "{path}"),
        }
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let (parts, text) = post(&fixture, "/loki/api/v1/query?query=vector(1)", &form, "x=%zz").await;
    assert_eq!((parts.status.as_u16(), text.as_str()), (400, "invalid URL escape \"%zz\""));
}

/// What a client is told that asks for a tail without the wish for another protocol.
#[tokio::test]
async fn a_handshake_is_looked_at_in_lokis_order() {
    let fixture = filled().await;
    let good = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (name, value, status) in [
        ("connection", "close", 400),
        ("upgrade", "h2c", 426),
        ("sec-websocket-version", "12", 400),
        ("sec-websocket-key", "x", 400),
        ("sec-websocket-key", "", 400),
    ] {
        let mut request = Request::get(encoded("/loki/api/v1/tail?query={app=\"shop\"}"));
        for (known, sound) in good {
            request = request.header(known, if known == name { value } else { sound });
        }
        let (parts, _) = fixture.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(parts.status, status, "{name}: {value}");
        assert_eq!(parts.headers["sec-websocket-version"], "13", "{name}: {value}");
        assert_eq!(parts.headers.contains_key("upgrade"), status == 426, "{name}: {value}");
    }
}

#[tokio::test]
async fn old_clients_get_old_shapes() {
    let fixture = filled().await;
    assert_eq!(
        get_json(&fixture, "/api/prom/label").await,
        json!({ "status": "success", "data": ["app", "pod", "service_name"] })
    );
    assert_eq!(
        get_json(&fixture, "/api/prom/label/app/values").await,
        json!({ "status": "success", "data": ["bank", "shop"] })
    );
    let answer = get_json(&fixture, "/api/prom/query?query={app=\"shop\"}&regexp=error").await;
    let stream = &answer["streams"][0];
    let labels = "{app=\"shop\", detected_level=\"error\", pod=\"1\", service_name=\"shop\"}";
    assert_eq!(stream["labels"], labels);
    let entry = json!([{ "ts": "2023-11-14T22:13:19.999999998Z", "line": "level=error b" }]);
    assert_eq!(stream["entries"], entry);
    let (status, text) = get(&fixture, "/api/prom/query?query=rate({app=\"shop\"}[1m])").await;
    assert_eq!((status, text.as_str()), (400, "legacy endpoints only support streams result type"));
}

#[tokio::test]
async fn refusals_are_bare_texts() {
    let fixture = filled().await;
    let empty_matcher = "queries require at least one regexp or equality matcher that does not have an \
                         empty-compatible value";
    for (path, status, part) in [
        ("query", 400, "parse error : syntax error: unexpected $end"),
        ("query?query={app=\"x\"}", 400, "log queries are not supported as an instant query type"),
        ("query?query=vector(1)&time=noon", 400, "invalid syntax"),
        ("query_range?query={app=\"x\"}&limit=0", 400, "limit must be a positive value"),
        ("query_range?query={app=\"x\"}&limit=5001", 400, "max_entries_limit_per_query (5001 > 5000)"),
        ("query_range?query={app=\"x\"}&direction=up", 400, "invalid direction 'up'"),
        ("query_range?query={app=\"x\"}&start=2&end=1", 400, "end timestamp must not be before or equal"),
        (
            "query_range?query={app=\"x\"}&start=1",
            400,
            "the query time range exceeds the limit (query length: ",
        ),
        ("query_range?query={app=\"x\"}&step=0", 400, "zero or negative query resolution step widths"),
        ("query_range?query={app=\"x\"}&interval=-1", 400, "interval must be >= 0"),
        ("query_range?query={app=~\".*\"}", 400, empty_matcher),
        ("query_range?query=sum({app=\"x\"})", 400, "parse error"),
        ("labels?query={}", 400, empty_matcher),
        ("labels?query={app=\"x\"}|=\"y\"", 400, "only label matchers are supported"),
        ("series?match[]={app=~\".*\"}", 400, empty_matcher),
        ("index/stats", 400, "parse error"),
        ("index/volume?query={app=\"x\"}&aggregateBy=no", 400, "invalid aggregation option"),
        ("tail?query=", 400, "parse error"),
        ("tail?query={app=\"x\"}&delay_for=6", 400, "delay_for can't be greater than 5"),
        ("tail?query={app=\"x\"}", 400, ""),
        ("nope", 404, "404 page not found"),
    ] {
        let request = Request::get(encoded(&format!("/loki/api/v1/{path}")));
        let (parts, body) = fixture.send(request.body(Body::empty()).unwrap()).await;
        let text = String::from_utf8_lossy(&body);
        assert_eq!(parts.status.as_u16(), status, "{path}: {text}");
        assert!(text.contains(part), "{path}: {text}");
        assert_eq!(parts.headers["content-type"], "text/plain; charset=utf-8", "{path}");
    }
    let (status, body) = get(&fixture, "/loki/api/v1/format_query?query=sum(").await;
    assert_eq!(
        (status, body.starts_with("{\"status\":\"invalid-query\",\"error\":\"parse error")),
        (400, true)
    );
    let good = get_json(&fixture, "/loki/api/v1/format_query?query=vector( 1 )").await;
    assert_eq!(good, json!({ "status": "success", "data": "vector(1.000000)" }));
}

#[tokio::test]
async fn pushes_are_answered_as_by_loki() {
    let fixture = fixture();
    let json = ("content-type", "application/json");
    let good = push_body(&[(&[("app", "x")], &[(NOW_NS, "a")])]);
    for (headers, body, status, part) in [
        (&[json][..], good.clone(), 204, ""),
        (&[("content-type", "application/json; charset=utf-8")], good.clone(), 204, ""),
        (&[json], "{}".to_owned(), 422, "error at least one valid stream is required for ingestion"),
        (&[json], String::new(), 400, ""),
        (&[json], "[1]".to_owned(), 400, ""),
        (&[json], "null".to_owned(), 422, "at least one valid stream"),
        (&[json, ("content-encoding", "br")], good.clone(), 400, "Content-Encoding \"br\" not supported"),
        (&[json, ("content-encoding", "gzip")], good.clone(), 400, ""),
        (&[("content-type", ";;")], good.clone(), 400, "mime"),
        (&[], good.clone(), 400, "mime"),
        (&[("content-type", "text/plain")], good.clone(), 400, ""),
        (&[json], push_body(&[(&[("a-b", "x")], &[(NOW_NS, "a")])]), 400, "couldn't parse labels"),
    ] {
        let (parts, text) = post(&fixture, "/loki/api/v1/push", headers, body.clone()).await;
        assert_eq!(parts.status.as_u16(), status, "{headers:?} {body}: {text}");
        assert!(text.contains(part), "{headers:?} {body}: {text}");
    }
    let (status, _) = get(&fixture, "/loki/api/v1/push").await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn rates_are_limited_where_a_limit_is_set() {
    let limits = Limits { max_log_bytes_per_second: 1, max_log_burst_bytes: 100, ..Limits::default() };
    let fixture = Fixture::with(limits, crate::Auth::Off);
    let long = "x".repeat(90);
    assert_eq!(push(&fixture, &[(&[("app", "x")], &[(NOW_NS, &long)])]).await.0, 204);
    let body = push_body(&[(&[("app", "x")], &[(NOW_NS + 1, &long)])]);
    let json = [("content-type", "application/json")];
    let (parts, text) = post(&fixture, "/loki/api/v1/push", &json, body).await;
    assert_eq!(parts.status.as_u16(), 429);
    assert!(parts.headers.contains_key("retry-after"));
    assert!(text.starts_with("ingestion rate limit exceeded for user fake (limit: 1 bytes/sec)"), "{text}");
}

#[tokio::test]
async fn otlp_logs_are_stored_with_their_attributes() {
    let fixture = fixture();
    let body = json!({ "resourceLogs": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "o" } }] },
        "scopeLogs": [{ "logRecords": [{
            "timeUnixNano": NOW_NS.to_string(), "severityText": "WARN", "body": { "stringValue": "hi" },
            "attributes": [{ "key": "http.method", "value": { "stringValue": "GET" } }],
        }] }],
    }] });
    let json = [("content-type", "application/json")];
    for path in ["/otlp/v1/logs", "/loki/api/v1/otlp/v1/logs"] {
        let (parts, text) = post(&fixture, path, &json, body.to_string()).await;
        assert_eq!((parts.status.as_u16(), text.as_str()), (204, ""), "{path}");
    }
    let path = format!("/loki/api/v1/query_range?query={{service_name=\"o\"}}&end={}", NOW_NS + 1);
    let answer = get_json(&fixture, &path).await;
    assert_eq!(lines(&answer), ["hi"]);
    assert_eq!(answer["data"]["result"][0]["stream"]["http_method"], "GET");
    let (parts, body) = post(&fixture, "/otlp/v1/logs", &[("content-type", "text/plain")], "x").await;
    assert_eq!((parts.status.as_u16(), body.is_empty()), (400, false));
}

#[tokio::test]
async fn nothing_answers_before_the_data_is_there() {
    let app = Fixture::starting(Limits::default(), crate::Auth::Off);
    for path in ["/loki/api/v1/labels", "/loki/api/v1/query_range?query={a=\"b\"}", "/loki/api/v1/series"] {
        let (parts, _) =
            crate::tests::send(&app, Request::get(encoded(path)).body(Body::empty()).unwrap()).await;
        assert_eq!(parts.status.as_u16(), 503, "{path}");
    }
}

mod following {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    type Socket =
        tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

    /// A fixture behind a real listener, which an upgrade needs.
    async fn listening(limits: Limits) -> (Fixture, String, tokio::sync::oneshot::Sender<()>) {
        let fixture = Fixture::with(limits, crate::Auth::Off);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stopped, stop) = tokio::sync::oneshot::channel::<()>();
        let app = fixture.app();
        tokio::spawn(crate::serve(
            app,
            listener,
            crate::Listening { max_connections: 100, tls: None },
            async {
                let _ = stop.await;
            },
        ));
        (fixture, address, stopped)
    }

    async fn follow(address: &str, query: &str) -> Socket {
        let url = format!("ws://{address}/loki/api/v1/tail?{}", encoded(query));
        tokio_tungstenite::connect_async(url).await.unwrap().0
    }

    /// The next message that is not a ping.
    async fn next(socket: &mut Socket) -> Message {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
            match message.expect("a message in time").expect("a message").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn next_lines(socket: &mut Socket) -> Vec<String> {
        let Message::Text(text) = next(socket).await else { panic!("no text") };
        let frame: Value = serde_json::from_str(&text).unwrap();
        let streams = frame["streams"].as_array().unwrap().clone();
        let values = streams.iter().flat_map(|s| s["values"].as_array().unwrap().clone());
        values.map(|v| v[1].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_follower_is_told_the_past_and_then_what_comes() {
        let (fixture, address, _stop) = listening(Limits::default()).await;
        let x: &[(&str, &str)] = &[("app", "x")];
        push(&fixture, &[(x, &[(NOW_NS - 2, "old a=1"), (NOW_NS - 1, "old a=2")])]).await;
        let query = "query={app=\"x\"}|=\"a\"|line_format\">{{__line__}}\"";
        let mut socket = follow(&address, query).await;
        assert_eq!(next_lines(&mut socket).await, [">old a=1", ">old a=2"]);
        push(&fixture, &[(x, &[(NOW_NS, "new a"), (NOW_NS, "new b")]), (&[("app", "y")], &[(NOW_NS, "a")])])
            .await;
        assert_eq!(next_lines(&mut socket).await, [">new a"]);
        // A retry of the same push says nothing new.
        push(&fixture, &[(x, &[(NOW_NS, "new a"), (NOW_NS, "newer a")])]).await;
        assert_eq!(next_lines(&mut socket).await, [">newer a"]);
        socket.close(None).await.unwrap();
        while fixture.app().logs.tails.count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_followed_is_closed_with_a_reason() {
        let (_fixture, address, stop) = listening(Limits { max_tails: 1, ..Limits::default() }).await;
        let reason = |message: Message| match message {
            Message::Close(Some(frame)) => (u16::from(frame.code), frame.reason.to_string()),
            other => panic!("{other:?}"),
        };
        let mut metric = follow(&address, "query=rate({app=\"x\"}[1m])").await;
        assert_eq!(reason(next(&mut metric).await), (1011, "only log selector is supported".to_owned()));
        let mut first = follow(&address, "query={app=\"x\"}").await;
        first.send(Message::Text("ignored".into())).await.unwrap();
        // The first has its place once it answers to the ping.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut second = follow(&address, "query={app=\"x\"}").await;
        let (code, text) = reason(next(&mut second).await);
        assert_eq!(code, 1011);
        assert!(
            text.contains("max concurrent tail requests limit exceeded, count > limit (2 > 1)"),
            "{text}"
        );
        drop(stop);
        assert_eq!(reason(next(&mut first).await).0, 1001);
    }
}
