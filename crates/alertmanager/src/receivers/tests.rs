//! Each kind against a server on this machine: what it is asked, and what its answers mean.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use pilothouse_model::Labels;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::alert::Held;
use crate::config::Config;
use crate::nflog::Reason;
use crate::templates::Templates;

/// A request as the server saw it.
#[derive(Debug)]
struct Seen {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Seen {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or(Json::Null)
    }
}

/// Answers each request with the next of some statuses and bodies, the last of them for ever.
async fn serve(answers: Vec<(u16, String)>) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut answer = answers.next().unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            sender.send(talk(stream, &answer).await).unwrap();
            answer = answers.next().unwrap_or(answer);
        }
    });
    (url, receiver)
}

async fn talk(stream: TcpStream, (status, answer): &(u16, String)) -> Seen {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.unwrap();
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    Seen {
        line: line.trim().trim_end_matches(" HTTP/1.1").to_owned(),
        headers,
        body: String::from_utf8(body).unwrap(),
    }
}

static PLACES: LazyLock<Places> = LazyLock::new(|| Places::new(Arc::default()));

fn message(resolved: bool) -> Message {
    message_of(2, resolved)
}

/// A message of so many alerts.
pub(super) fn message_of(alerts: usize, resolved: bool) -> Message {
    let alert = |i: &str| Held {
        labels: Labels::from_pairs([("alertname", "A"), ("i", i), ("severity", "critical")]),
        annotations: BTreeMap::from([("summary".to_owned(), format!("s{i}"))]),
        starts_at_ms: 1_700_000_000_000,
        ends_at_ms: 1_700_000_100_000,
        updated_at_ms: 0,
        timeout: false,
        generator_url: "http://g".to_owned(),
        fingerprint: 1,
    };
    Message {
        receiver: "r".to_owned(),
        group_key: "{}:{alertname=\"A\"}".into(),
        group_labels: Labels::from_pairs([("alertname", "A")]),
        route_labels: BTreeMap::new(),
        alerts: (1..=alerts).map(|i| Told { alert: alert(&i.to_string()).into(), resolved }).collect(),
        reason: if resolved { Reason::AllResolved } else { Reason::First },
        templates: Arc::new(Templates::new([]).unwrap()),
        external_url: "http://am".into(),
        now_ms: 1_700_000_200_000,
        notes: Default::default(),
    }
}

fn integration(yaml: &str, url: &str) -> Arc<Integration> {
    let yaml = format!("route: {{receiver: r}}\nreceivers:\n- name: r\n  {}\n", yaml.replace("$URL", url));
    let config = Config::load(&yaml).unwrap();
    config.receivers[0].integrations(4).unwrap().remove(0)
}

/// Whether a value has everything that another one has.
fn covers(got: &Json, wanted: &Json) -> bool {
    match (got, wanted) {
        (Json::Object(got), Json::Object(wanted)) => {
            wanted.iter().all(|(name, value)| covers(got.get(name).unwrap_or(&Json::Null), value))
        }
        (Json::Array(got), Json::Array(wanted)) => {
            got.len() == wanted.len() && got.iter().zip(wanted).all(|(g, w)| covers(g, w))
        }
        (got, wanted) => got == wanted,
    }
}

/// Runs one notification: options, answers, whether it is over, what the server saw.
async fn check(yaml: &str, answers: &[(u16, Json)], resolved: bool, expected: &[(&str, Json)]) {
    let answers = answers.iter().map(|(status, body)| (*status, body.to_string())).collect();
    let (url, mut seen) = serve(answers).await;
    let message = message(resolved);
    integration(yaml, &url).send(&message, &PLACES).await.unwrap_or_else(|e| panic!("{yaml}: {e:?}"));
    for (line, wanted) in expected {
        let got = seen.try_recv().unwrap_or_else(|_| panic!("{yaml}: no {line}"));
        let line = line.replace("$HASH", &message.group_hash());
        assert_eq!(got.line, line, "{yaml}");
        let wanted: Json =
            serde_json::from_str(&wanted.to_string().replace("$HASH", &message.group_hash())).unwrap();
        assert!(covers(&got.json(), &wanted), "{yaml}\n{}\n{wanted}", got.body);
    }
    assert!(seen.try_recv().is_err(), "{yaml}: more than that");
}

#[tokio::test]
async fn a_webhook_gets_version_4() {
    let body = json!({
        "receiver": "r", "status": "firing", "version": "4", "groupKey": "{}:{alertname=\"A\"}",
        "truncatedAlerts": 1, "externalURL": "http://am", "groupLabels": {"alertname": "A"},
        // Of the alert that is told, though the group has two.
        "commonLabels": {"alertname": "A", "i": "1", "severity": "critical"},
        "commonAnnotations": {"summary": "s1"},
        "alerts": [{
            "status": "firing", "labels": {"i": "1"}, "annotations": {"summary": "s1"},
            "startsAt": "2023-11-14T22:13:20Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://g", "fingerprint": "0000000000000001",
        }],
    });
    let yaml = "webhook_configs: [{url: '$URL/{{ .Status }}', max_alerts: 1}]";
    check(yaml, &[(200, json!({}))], false, &[("POST /firing", body)]).await;
    let own = "webhook_configs: [{url: $URL/x, payload: {a: '{{ len .Alerts }}', b: ['{{ .Status }}']}}]";
    check(own, &[(200, json!({}))], true, &[("POST /x", json!({"a": 2, "b": ["resolved"]}))]).await;
}

#[tokio::test]
async fn chats_get_cards() {
    let ok = [(200, json!({"ok": true, "success": true}))];
    check(
        "slack_configs: [{api_url: $URL/s, channel: '#ops', fields: [{title: F, value: '{{ .Status }}'}], actions: [{type: button, text: T, url: 'http://x'}]}]",
        &ok,
        false,
        &[(
            "POST /s",
            json!({
                "channel": "#ops", "username": "Alertmanager",
                "attachments": [{
                    "title": "[FIRING:2] A (critical)", "color": "danger", "text": "",
                    "title_link": "http://am/#/alerts?receiver=r",
                    "fields": [{"title": "F", "value": "firing", "short": false}],
                    "actions": [{"type": "button", "text": "T", "url": "http://x"}],
                    "mrkdwn_in": ["fallback", "pretext", "text"],
                }],
            }),
        )],
    )
    .await;
    check(
        "discord_configs: [{webhook_url: $URL/d, message: m, content: c, username: u}]",
        &ok,
        false,
        &[(
            "POST /d",
            json!({"content": "c", "username": "u", "embeds": [{"title": "[FIRING:2] A (critical)", "description": "m", "color": 0x99_2D22}]}),
        )],
    )
    .await;
    check(
        "msteams_configs: [{webhook_url: $URL/m, text: t}]",
        &ok,
        true,
        &[(
            "POST /m",
            json!({"@context": "http://schema.org/extensions", "type": "MessageCard", "title": "[RESOLVED] A (critical)", "text": "t", "themeColor": "2DC72D"}),
        )],
    )
    .await;
    check(
        "msteamsv2_configs: [{webhook_url: $URL/m, title: T, text: X}]",
        &ok,
        false,
        &[(
            "POST /m",
            json!({"type": "message", "attachments": [{"content": {"type": "AdaptiveCard", "body": [{"text": "T", "color": "Attention"}, {"text": "X"}]}}]}),
        )],
    )
    .await;
    check(
        "webex_configs: [{room_id: room, api_url: $URL/w, message: M, http_config: {authorization: {credentials: c}}}]",
        &ok,
        false,
        &[("POST /w", json!({"roomId": "room", "markdown": "M"}))],
    )
    .await;
    check(
        "telegram_configs: [{api_url: $URL, bot_token: 'tok:1', chat_id: 42, message: 'M {{ .Status }}'}]",
        &ok,
        false,
        &[("POST /bottok:1/sendMessage", json!({"chat_id": "42", "text": "M firing", "parse_mode": "HTML"}))],
    )
    .await;
    check(
        "rocketchat_configs: [{api_url: $URL, token_id: i, token: t, channel: '#c', text: x}]",
        &ok,
        false,
        &[(
            "POST /api/v1/chat.postMessage",
            json!({"channel": "#c", "attachments": [{"title": "[FIRING:2] A (critical)", "text": "x", "color": "red"}]}),
        )],
    )
    .await;
    check(
        "mattermost_configs: [{webhook_url: $URL/mm, text: t, priority: {priority: urgent, requested_ack: true}}]",
        &ok,
        false,
        &[(
            "POST /mm",
            json!({"attachments": [{"text": "t", "color": "danger"}], "priority": {"priority": "urgent", "requested_ack": true}}),
        )],
    )
    .await;
    check(
        "wechat_configs: [{api_url: $URL, api_secret: s, corp_id: c, message: m, to_user: u}]",
        &[(200, json!({"access_token": "tok"})), (200, json!({"errcode": 0}))],
        false,
        &[
            ("GET /gettoken?corpsecret=s&corpid=c", Json::Null),
            (
                "POST /message/send?access_token=tok",
                json!({"touser": "u", "msgtype": "text", "text": {"content": "m"}}),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn pagers_get_events() {
    let ok = [(202, json!({}))];
    check(
        "pagerduty_configs: [{routing_key: k, url: $URL/p, severity: warning, details: {extra: '{{ .Status }}'}, links: [{href: 'http://l', text: t}, {href: ''}]}]",
        &ok,
        false,
        &[(
            "POST /p",
            json!({
                "routing_key": "k", "dedup_key": "$HASH", "event_action": "trigger", "client": "Alertmanager",
                "links": [{"href": "http://l", "text": "t"}],
                "payload": {
                    "summary": "[FIRING:2] A (critical)", "source": "Alertmanager", "severity": "warning",
                    "custom_details": {"extra": "firing", "num_firing": 2, "num_resolved": 0},
                },
            }),
        )],
    )
    .await;
    let opsgenie = "opsgenie_configs: [{api_key: k, api_url: $URL/, message: M, priority: P2, tags: 'a,b', update_alerts: true, responders: [{type: teams, name: 'x,y'}]}]";
    check(
        opsgenie,
        &ok,
        false,
        &[
            (
                "POST /v2/alerts",
                json!({
                    "alias": "$HASH", "message": "M", "priority": "P2", "tags": ["a", "b"],
                    "details": {"alertname": "A", "severity": "critical"},
                    "responders": [{"name": "x", "type": "team"}, {"name": "y", "type": "team"}],
                }),
            ),
            ("PUT /v2/alerts/$HASH/message?identifierType=alias", json!({"message": "M"})),
            ("PUT /v2/alerts/$HASH/description?identifierType=alias", json!({})),
        ],
    )
    .await;
    check(
        opsgenie,
        &ok,
        true,
        &[(
            "POST /v2/alerts/$HASH/close?identifierType=alias",
            json!({"source": "http://am/#/alerts?receiver=r"}),
        )],
    )
    .await;
    check(
        "victorops_configs: [{api_key: k, api_url: $URL, routing_key: team, custom_fields: {f: '{{ .Status }}'}}]",
        &ok,
        true,
        &[("POST /k/team", json!({"message_type": "RECOVERY", "entity_id": "$HASH", "f": "resolved"}))],
    )
    .await;
    check(
        "incidentio_configs: [{url: $URL/i, alert_source_token: t}]",
        &ok,
        false,
        &[("POST /i", json!({"version": "1", "status": "firing", "truncatedAlerts": 0}))],
    )
    .await;
}

#[tokio::test]
async fn an_issue_is_made_found_again_and_closed() {
    let yaml = "jira_configs: [{api_url: $URL/rest/api/2, project: P, issue_type: Bug, description: d, resolve_transition: Done}]";
    check(
        yaml,
        &[(200, json!({"issues": []})), (201, json!({"key": "P-1"}))],
        false,
        &[
            (
                "POST /rest/api/2/search",
                json!({"jql": "statusCategory != Done and project=\"P\" and labels=\"ALERT{$HASH}\" order by status ASC,resolutiondate DESC"}),
            ),
            (
                "POST /rest/api/2/issue",
                json!({"fields": {
                    "project": {"key": "P"}, "issuetype": {"name": "Bug"}, "summary": "[FIRING:2] A (critical)",
                    "description": "d", "labels": ["ALERT{$HASH}"], "priority": {"name": "High"},
                }}),
            ),
        ],
    )
    .await;
    let status = json!({"statusCategory": {"key": "new"}});
    check(
        yaml,
        &[
            (200, json!({"issues": [{"key": "P-1", "fields": {"status": status}}]})),
            (204, Json::Null),
            (200, json!({"transitions": [{"id": "7", "name": "Done"}]})),
            (204, Json::Null),
        ],
        true,
        &[
            ("POST /rest/api/2/search", json!({})),
            ("PUT /rest/api/2/issue/P-1", json!({"fields": {"description": "d"}})),
            ("GET /rest/api/2/issue/P-1/transitions", Json::Null),
            ("POST /rest/api/2/issue/P-1/transitions", json!({"transition": {"id": "7"}})),
        ],
    )
    .await;
}

#[tokio::test]
async fn forms_are_posted() {
    let (url, mut seen) = serve(vec![(200, "{}".to_owned())]).await;
    let yaml = "sns_configs: [{api_url: $URL, topic_arn: 'arn:aws:sns:eu-west-1:1:t.fifo', sigv4: {access_key: a, secret_key: s}, attributes: {k: v}}]";
    integration(yaml, &url).send(&message(false), &PLACES).await.unwrap();
    let got = seen.recv().await.unwrap();
    for part in [
        "Action=Publish",
        "Subject=%5BFIRING%3A2%5D+A+%28critical%29",
        "MessageGroupId=",
        "MessageAttributes.entry.1.Name=k",
    ] {
        assert!(got.body.contains(part), "{part} {}", got.body);
    }
    assert!(
        got.headers["authorization"]
            .starts_with("AWS4-HMAC-SHA256 Credential=a/20231114/eu-west-1/sns/aws4_request")
    );

    let (url, mut seen) = serve(vec![(200, "{}".to_owned())]).await;
    let yaml = "pushover_configs: [{user_key: u, token: t, message: m, ttl: 1m}]";
    let config = Config::load(&format!("route: {{receiver: r}}\nreceivers:\n- name: r\n  {yaml}\n")).unwrap();
    let options = config.receivers[0].pushover_configs[0].clone().unwrap();
    let caller = call::Caller::new(&None, crate::config::GoMillis(0)).unwrap();
    pushover::Pushover { options, caller, url }.send(&message(true)).await.unwrap();
    let got = seen.recv().await.unwrap();
    for part in
        ["token=t&user=u&title=%5BRESOLVED%5D+A", "message=m", "priority=0", "retry=60&expire=3600", "ttl=60"]
    {
        assert!(got.body.contains(part), "{part} {}", got.body);
    }
}

#[tokio::test]
async fn answers_decide_whether_it_is_tried_again() {
    let hook = "webhook_configs: [{url: $URL/secret}]";
    let slack = "slack_configs: [{api_url: $URL/secret, channel: c}]";
    let pager = "pagerduty_configs: [{routing_key: k, url: $URL/p}]";
    for (yaml, status, body, retry, text) in [
        (hook, 500, "{}", true, "unexpected status code 500: {}"),
        (hook, 404, "", false, "unexpected status code 404"),
        (hook, 301, "", false, "unexpected status code 301"),
        (
            slack,
            200,
            "{\"ok\":false,\"error\":\"nope\"}",
            false,
            "channel \"c\": error response from Slack: nope",
        ),
        (slack, 429, "", false, "channel \"c\": unexpected status code 429"),
        (pager, 429, "", true, "unexpected status code 429"),
        (pager, 400, "{\"message\":\"m\",\"errors\":[\"e\"]}", false, "unexpected status code 400: m: e"),
    ] {
        let (url, _seen) = serve(vec![(status, body.to_owned())]).await;
        let failure = integration(yaml, &url).send(&message(false), &PLACES).await.unwrap_err();
        assert_eq!((failure.retry, failure.text.as_str()), (retry, text), "{yaml} {status}");
    }
    let failure = integration(hook, "http://127.0.0.1:1").send(&message(false), &PLACES).await.unwrap_err();
    assert!(failure.retry && !failure.text.contains("secret"), "{failure:?}");
    let wrong = "webhook_configs: [{url: '$URL/{{ .Nope }}'}]";
    assert!(
        !integration(wrong, "http://127.0.0.1:1").send(&message(false), &PLACES).await.unwrap_err().retry
    );
}

#[tokio::test]
async fn each_service_has_its_own_idea_of_what_is_worth_another_try() {
    let telegram = "telegram_configs: [{api_url: $URL, bot_token: t, chat_id: 1, message: m}]";
    let kinds = [
        ("webhook_configs: [{url: $URL}]", false),
        ("slack_configs: [{api_url: $URL, channel: c}]", false),
        ("discord_configs: [{webhook_url: $URL}]", false),
        ("msteams_configs: [{webhook_url: $URL}]", false),
        ("msteamsv2_configs: [{webhook_url: $URL}]", false),
        ("mattermost_configs: [{webhook_url: $URL}]", false),
        ("rocketchat_configs: [{api_url: $URL, token_id: i, token: t}]", false),
        (
            "webex_configs: [{room_id: r, api_url: $URL, http_config: {authorization: {credentials: c}}}]",
            false,
        ),
        ("victorops_configs: [{api_key: k, api_url: $URL, routing_key: t}]", false),
        ("opsgenie_configs: [{api_key: k, api_url: $URL}]", true),
        ("pagerduty_configs: [{routing_key: k, url: $URL}]", true),
        ("incidentio_configs: [{url: $URL, alert_source_token: t}]", true),
        ("jira_configs: [{api_url: $URL, project: P, issue_type: B}]", true),
        (telegram, true),
    ];
    for (yaml, when_limited) in kinds {
        for (status, retry) in [(429, when_limited), (500, true), (503, true), (400, yaml == telegram)] {
            let (url, _seen) = serve(vec![(status, "{}".to_owned())]).await;
            let failure = integration(yaml, &url).send(&message(false), &PLACES).await.unwrap_err();
            assert_eq!(failure.retry, retry, "{yaml} {status} {}", failure.text);
        }
    }
    // It says in the answer what its status does not.
    for (answer, expected) in [
        ("{\"ok\":true,\"result\":{}}", Ok(())),
        (
            "{\"ok\":false,\"error_code\":429,\"description\":\"Too Many Requests\"}",
            Err(FailureReason::RateLimited),
        ),
        ("gateway", Err(FailureReason::Other)),
    ] {
        let (url, _seen) = serve(vec![(200, answer.to_owned())]).await;
        let sent = integration(telegram, &url).send(&message(false), &PLACES).await;
        assert_eq!(sent.map_err(|failure| failure.reason), expected, "{answer}");
    }
}

#[tokio::test]
async fn keys_that_print_nothing_are_refused_and_paths_hold_what_they_are_given() {
    let yaml = "pagerduty_configs: [{routing_key: '{{ .CommonLabels.nope }}', url: $URL}]";
    let failure = integration(yaml, "http://127.0.0.1:1").send(&message(false), &PLACES).await.unwrap_err();
    assert_eq!((failure.retry, failure.text.as_str()), (false, "routing key cannot be empty"));
    let yaml = "victorops_configs: [{api_key: k, api_url: $URL, routing_key: 'a b?c'}]";
    check(yaml, &[(200, json!({}))], false, &[("POST /k/a%20b%3Fc", json!({}))]).await;
}

/// A server of mail that takes everything, and what it was told.
async fn mail_server() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 x\r\n").await.unwrap();
        let (mut line, mut in_data) = (String::new(), false);
        while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
            let said = line.trim_end().to_owned();
            line.clear();
            let answer = match said.as_str() {
                "." if in_data => {
                    in_data = false;
                    "250 queued"
                }
                _ if in_data => "",
                "DATA" => {
                    in_data = true;
                    "354 go"
                }
                said if said.starts_with("EHLO") => "250-x\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN CRAM-MD5",
                "AUTH CRAM-MD5" => "334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+",
                _ => "250 ok",
            };
            sender.send(said).unwrap();
            if !answer.is_empty() {
                stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    (address, receiver)
}

async fn mail(options: &str) -> String {
    let (address, mut said) = mail_server().await;
    let yaml = format!(
        "email_configs: [{{to: 'a@x.org, b@x.org', from: 'Me <me@x.org>', smarthost: '{address}', require_tls: false, {options}}}]"
    );
    integration(&yaml, "").send(&message(false), &PLACES).await.unwrap();
    let mut all = String::new();
    while let Some(line) = said.recv().await {
        all.push_str(&line);
        all.push('\n');
    }
    all
}

#[tokio::test]
async fn mail_is_sent_with_a_login_and_both_kinds_of_text() {
    let said = mail("auth_username: u, auth_password: p, text: plain, headers: {subject: 'S {{ .Status }}', X-Y: z}, threading: {enabled: true, thread_by_date: none}").await;
    for part in [
        "AUTH PLAIN AHUAcA==\n",
        "MAIL FROM:<me@x.org>",
        "RCPT TO:<a@x.org>\nRCPT TO:<b@x.org>\n",
        "Subject: S firing\n",
        "X-Y: z\n",
        "To: a@x.org, b@x.org\n",
        "Content-Type: multipart/alternative;",
        "In-Reply-To: <alert-",
        "\nplain\n",
        "2 alerts for",
        "Message-ID: <",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[tokio::test]
async fn a_shared_secret_logs_in_by_cram_md5() {
    let said = mail("auth_username: tim, auth_secret: tanstaaftanstaaf").await;
    // The example of RFC 2195.
    assert!(said.contains("dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"), "{said}");
}

#[tokio::test]
async fn a_login_that_is_offered_needs_a_secret() {
    let (address, _said) = mail_server().await;
    let yaml = format!(
        "email_configs: [{{to: a@x.org, from: me@x.org, smarthost: '{address}', require_tls: false, auth_username: u}}]"
    );
    let failure = integration(&yaml, "").send(&message(false), &PLACES).await.unwrap_err();
    assert_eq!(
        (failure.retry, failure.text.as_str()),
        (
            true,
            "find auth mechanism: missing password for PLAIN auth mechanism\nmissing password for LOGIN auth mechanism\nmissing secret for CRAM-MD5 auth mechanism"
        )
    );
}

#[tokio::test]
async fn mail_without_tls_is_refused_unless_it_is_allowed() {
    let (address, _said) = mail_server().await;
    let yaml = format!("email_configs: [{{to: a@x.org, from: me@x.org, smarthost: '{address}'}}]");
    let failure = integration(&yaml, "").send(&message(false), &PLACES).await.unwrap_err();
    assert_eq!(
        failure.text,
        format!(
            "'require_tls' is true (default) but \"{address}\" does not advertise the STARTTLS extension"
        )
    );
}

#[tokio::test]
async fn a_message_on_slack_is_changed_where_it_stands() {
    let (url, mut seen) =
        serve(vec![(200, r#"{"ok": true, "ts": "12.5", "channel": "C1"}"#.to_owned())]).await;
    // Configurations may name no other server than Slack's.
    let yaml = format!("{{api_url: '{url}/api/chat.postMessage', channel: ops, update_message: true}}");
    let notifier = serde_norway::from_str::<slack::SlackConfig>(&yaml).unwrap().notifier().unwrap();
    let told = message(false);
    notifier.send(&told).await.unwrap();
    let first = seen.recv().await.unwrap();
    assert_eq!(
        (first.line.as_str(), &first.json()["channel"]),
        ("POST /api/chat.postMessage", &json!("ops"))
    );
    let told = Message { notes: told.notes, ..message(true) };
    notifier.send(&told).await.unwrap();
    let second = seen.recv().await.unwrap();
    assert_eq!(second.line, "POST /api/chat.update");
    assert!(covers(&second.json(), &json!({"channel": "C1", "ts": "12.5"})), "{}", second.body);
}
