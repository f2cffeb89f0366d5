//! The client against servers on this machine, and the words in which options are refused.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use pilothouse_model::Memory;
use pilothouse_model::memory::Part;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers each connection with the next of some answers and tells what it was asked.
async fn serve(tls: Option<TlsAcceptor>, answers: Vec<String>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            match &tls {
                None => talk(stream, &answer, &sender).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        talk(stream, &answer, &sender).await;
                    }
                }
            }
        }
    });
    (port, receiver)
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    seen: &mpsc::UnboundedSender<String>,
) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let n = stream.read(&mut piece).await.unwrap_or(0);
        request.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&request);
        let length: usize = text
            .to_lowercase()
            .split_once("content-length: ")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        let head = text.find("\r\n\r\n");
        if n == 0 || head.is_some_and(|at| request.len() >= at + 4 + length) {
            break;
        }
    }
    let _ = seen.send(String::from_utf8_lossy(&request).into_owned());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn settings() -> ClientSettings {
    ClientSettings::booking(&Arc::default())
}

fn client(yaml: &str) -> Client {
    let options: HttpOptions = serde_norway::from_str(yaml).unwrap();
    let settings = ClientSettings { timeout: Duration::from_secs(5), max_response_bytes: 8, ..settings() };
    Client::new(&options, settings).unwrap()
}

fn post(url: String) -> Request {
    Request { method: Method::POST, url: Secret::new(url), headers: HeaderMap::new(), body: "b".into() }
}

#[tokio::test]
async fn authorization_and_headers_go_with_a_call() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "fromfile\n").unwrap();
    let by_file = format!("{{bearer_token_file: {:?}}}", file.path());
    for (yaml, expected) in [
        ("{basic_auth: {username: u, password: p}}", "authorization: basic dtpw"),
        ("{authorization: {credentials: c}}", "authorization: bearer c"),
        ("{authorization: {type: Key, credentials: c}}", "authorization: key c"),
        ("{bearer_token: t}", "authorization: bearer t"),
        (by_file.as_str(), "authorization: bearer fromfile"),
        ("{http_headers: {X-A: {values: [v], secrets: [s]}}}", "x-a: v\r\nx-a: s"),
        ("{}", "user-agent: pilothouse/"),
    ] {
        let (port, mut seen) = serve(None, vec![answer(200, "", "0123456789")]).await;
        let got = client(yaml).send(post(format!("http://127.0.0.1:{port}/"))).await.unwrap();
        assert_eq!((got.status.as_u16(), got.body.len()), (200, 8), "read up to the bound");
        let request = seen.recv().await.unwrap().to_lowercase();
        assert!(request.contains(expected), "{yaml}: {request}");
    }
}

#[tokio::test]
async fn redirects_are_followed_or_not() {
    for (yaml, status) in [("{}", 200), ("{follow_redirects: false}", 302)] {
        let moved = answer(302, "location: /other\r\n", "");
        let (port, mut seen) = serve(None, vec![moved, answer(200, "", "")]).await;
        let got = client(yaml).send(post(format!("http://127.0.0.1:{port}/"))).await.unwrap();
        assert_eq!(got.status.as_u16(), status);
        assert!(seen.recv().await.unwrap().starts_with("POST / "));
        if status == 200 {
            assert!(seen.recv().await.unwrap().starts_with("GET /other "), "as browsers and Go do");
        }
    }
}

/// Where a redirect leads elsewhere, no credentials go with it, nor the address that it came from.
#[tokio::test]
async fn credentials_do_not_follow_a_redirect_elsewhere() {
    for (yaml, status) in [
        ("{authorization: {credentials: hush}}", 200),
        ("{basic_auth: {username: u, password: hush}}", 200),
        ("{http_headers: {X-A: {values: [v]}}}", 200),
        ("{http_headers: {X-A: {secrets: [hush]}}}", 302),
    ] {
        let (elsewhere, mut seen) = serve(None, vec![answer(200, "", "")]).await;
        let moved = answer(302, &format!("location: http://127.0.0.1:{elsewhere}/other\r\n"), "");
        let (port, _) = serve(None, vec![moved]).await;
        let got = client(yaml).send(post(format!("http://127.0.0.1:{port}/?key=hush"))).await.unwrap();
        assert_eq!(got.status.as_u16(), status, "{yaml}");
        if let Ok(request) = seen.try_recv() {
            let request = request.to_lowercase();
            assert!(!request.contains("hush") && !request.contains("authorization"), "{yaml}: {request}");
        }
    }
}

/// What is booked goes with the body, and is given back with it.
#[tokio::test]
async fn long_answers_are_booked_and_refused_where_there_is_no_room() {
    let body = "x".repeat(1 << 20);
    for (limit_bytes, expected) in [(64 << 20, Ok(1 << 20)), (1 << 20, Err(()))] {
        let memory = Arc::new(Memory::limited(limit_bytes));
        let settings = ClientSettings { max_response_bytes: 2 << 20, ..ClientSettings::booking(&memory) };
        let client = Client::new(&HttpOptions::default(), settings).unwrap();
        let (port, _seen) = serve(None, vec![answer(200, "", &body)]).await;
        let got = client.send(post(format!("http://127.0.0.1:{port}/"))).await;
        let held = got.as_ref().map(|_| memory.held_bytes(Part::Requests));
        assert_eq!(held.map_err(|e| assert!(matches!(e, CallError::NoMemory(_)), "{e}")), expected);
        drop(got);
        assert_eq!(memory.held_bytes(Part::Requests), 0);
    }
    // What has to go through is counted, and goes through.
    let memory = Arc::new(Memory::limited(1 << 20));
    let settings = ClientSettings { max_response_bytes: 2 << 20, ..ClientSettings::booking(&memory) };
    let client = Client::new(&HttpOptions::default(), settings.never_refused()).unwrap();
    let (port, _seen) = serve(None, vec![answer(200, "", &body)]).await;
    let got = client.send(post(format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!((got.body.len(), memory.held_bytes(Part::Requests)), (1 << 20, 1 << 20));
}

#[tokio::test]
async fn tokens_are_fetched_once_and_again_when_refused() {
    let token = |t: &str| {
        answer(
            200,
            "",
            &format!("{{\"access_token\":\"{t}\",\"token_type\":\"bearer\",\"expires_in\":3600}}"),
        )
    };
    let settings = ClientSettings { timeout: Duration::from_secs(5), ..settings() };
    let (token_port, mut asked) = serve(None, vec![token("one"), token("two")]).await;
    let options: HttpOptions = serde_norway::from_str(&format!(
        "{{oauth2: {{client_id: i, client_secret: s, token_url: 'http://127.0.0.1:{token_port}/t', scopes: [a, b], endpoint_params: {{x: y}}}}}}"
    ))
    .unwrap();
    let client = Client::new(&options, settings).unwrap();
    let (port, mut seen) =
        serve(None, vec![answer(200, "", ""), answer(401, "", ""), answer(200, "", "")]).await;
    for _ in 0..3 {
        client.send(post(format!("http://127.0.0.1:{port}/"))).await.unwrap();
    }
    for expected in ["bearer one", "bearer one", "bearer two"] {
        let request = seen.recv().await.unwrap().to_lowercase();
        assert!(request.contains(expected), "{expected}: {request}");
    }
    let request = asked.recv().await.unwrap();
    for part in ["POST /t ", "Basic aTpz", "grant_type=client_credentials&scope=a+b&x=y"] {
        assert!(request.to_lowercase().contains(&part.to_lowercase()), "{part}: {request}");
    }
}

fn tls() -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec!["there.example".to_owned()]).unwrap();
    let acceptor = showing(made.cert.der().clone(), &made.signing_key);
    (made.cert.pem(), acceptor)
}

/// A server that shows a certificate, whether or not the key is that of the certificate.
fn showing(certificate: CertificateDer<'static>, key: &rcgen::KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![certificate], key);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn certificates_are_checked_as_the_options_say() {
    let (pem, acceptor) = tls();
    let indented = pem.replace('\n', "\n    ");
    for (yaml, good) in [
        ("{}".to_owned(), false),
        (format!("tls_config:\n  ca: |\n    {indented}\n"), false),
        (format!("tls_config:\n  server_name: there.example\n  ca: |\n    {indented}\n"), true),
        (format!("tls_config:\n  server_name: other.example\n  ca: |\n    {indented}\n"), false),
        ("{tls_config: {insecure_skip_verify: true}}".to_owned(), true),
        ("{tls_config: {insecure_skip_verify: true, min_version: TLS13}}".to_owned(), true),
        ("{tls_config: {insecure_skip_verify: true, max_version: TLS12}}".to_owned(), true),
    ] {
        let (port, _seen) = serve(Some(acceptor.clone()), vec![answer(200, "", "")]).await;
        let got = client(&yaml).send(post(format!("https://localhost:{port}/secret"))).await;
        assert_eq!(got.is_ok(), good, "{yaml}: {got:?}");
        assert!(got.is_ok_and(|_| true) == good);
    }
}

/// What `openssl req -x509` makes: a certificate of an authority, signed by itself, for this host.
fn authority(
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> (rcgen::CertificateParams, rcgen::KeyPair) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    change(&mut params);
    (params, rcgen::KeyPair::generate().unwrap())
}

async fn is_believed(acceptor: &TlsAcceptor, ca: &str, also: &str) -> bool {
    let ca = ca.replace('\n', "\n    ");
    for version in ["TLS12", "TLS13"] {
        let yaml = format!(
            "tls_config:\n  min_version: {version}\n  max_version: {version}\n{also}  ca: |\n    {ca}\n"
        );
        let (port, _seen) = serve(Some(acceptor.clone()), vec![answer(200, "", "")]).await;
        let got = client(&yaml).send(post(format!("https://localhost:{port}/"))).await;
        if got.is_err() {
            return false;
        }
    }
    true
}

/// As Go takes it: one that is itself among the roots, whose name, time and purpose fit and whose key
/// the server holds.
#[tokio::test]
async fn an_authority_that_is_named_itself_may_be_a_server() {
    use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    type Change = fn(&mut rcgen::CertificateParams);
    let cases: [(&str, Change, bool); 8] = [
        ("as it is made", |_| {}, true),
        ("for servers", |p| p.extended_key_usages = vec![ServerAuth, ClientAuth], true),
        ("for all", |p| p.extended_key_usages = vec![Any], true),
        ("for clients", |p| p.extended_key_usages = vec![ClientAuth], false),
        ("no longer", |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1), false),
        ("not yet", |p| p.not_before = rcgen::date_time_ymd(3020, 1, 1), false),
        ("of another host", |p| p.subject_alt_names.clear(), false),
        ("of no authority", |p| p.is_ca = rcgen::IsCa::ExplicitNoCa, true),
    ];
    for (what, change, good) in cases {
        let (params, key) = authority(change);
        let made = params.self_signed(&key).unwrap();
        let acceptor = showing(made.der().clone(), &key);
        assert_eq!(is_believed(&acceptor, &made.pem(), "").await, good, "{what}");
    }
}

#[tokio::test]
async fn nothing_but_the_authority_itself_is_taken_for_it() {
    let (params, key) = authority(|_| {});
    let pinned = params.self_signed(&key).unwrap();
    let believed = |acceptor, also| {
        let ca = pinned.pem();
        async move { is_believed(&acceptor, &ca, also).await }
    };
    assert!(believed(showing(pinned.der().clone(), &key), "").await);
    assert!(!believed(showing(pinned.der().clone(), &key), "  server_name: other.example\n").await);
    let other = rcgen::KeyPair::generate().unwrap();
    assert!(!believed(showing(pinned.der().clone(), &other), "").await, "somebody else's key");
    let (mut again, _) = authority(|_| {});
    again.serial_number = Some(7.into());
    let again = again.self_signed(&key).unwrap();
    assert!(!believed(showing(again.der().clone(), &key), "").await, "another certificate of the same key");
    let signer = rcgen::Issuer::from_params(&params, &key);
    let (below, _) = authority(|_| {});
    let below = below.signed_by(&other, &signer).unwrap();
    assert!(!believed(showing(below.der().clone(), &other), "").await, "an authority below it");
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&other, &signer).unwrap();
    assert!(believed(showing(leaf.der().clone(), &other), "").await, "a server's that it signed");
}

#[tokio::test]
async fn a_proxy_is_asked_instead_unless_it_is_not_for_the_host() {
    for (no_proxy, proxied) in [("other.example", true), ("127.0.0.1", false)] {
        let (proxy, mut asked) = serve(None, vec![answer(200, "", "")]).await;
        let (port, mut seen) = serve(None, vec![answer(200, "", "")]).await;
        let yaml = format!("{{proxy_url: 'http://127.0.0.1:{proxy}', no_proxy: {no_proxy}}}");
        client(&yaml).send(post(format!("http://127.0.0.1:{port}/x"))).await.unwrap();
        if proxied {
            assert!(asked.recv().await.unwrap().starts_with(&format!("POST http://127.0.0.1:{port}/x ")));
        } else {
            assert!(seen.recv().await.unwrap().starts_with("POST /x "));
        }
    }
}

#[tokio::test]
async fn failures_say_neither_address_nor_secret() {
    let error = client("{}").send(post("http://127.0.0.1:1/s3cret".into())).await.unwrap_err();
    assert!(error.is_temporary() && !error.to_string().contains("s3cret"), "{error}");
    let (port, _seen) = serve(None, Vec::new()).await;
    let options = HttpOptions::default();
    let settings = ClientSettings { timeout: Duration::from_millis(50), ..settings() };
    let slow = Client::new(&options, settings).unwrap();
    let error = slow.send(post(format!("http://127.0.0.1:{port}/s3cret"))).await.unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let error = client("{bearer_token_file: /no/such/file}").send(post("http://127.0.0.1:1/".into())).await;
    assert!(!error.unwrap_err().is_temporary());
}

#[test]
fn options_are_refused_in_the_words_of_prometheus() {
    for (yaml, expected) in [
        (
            "{bearer_token: a, bearer_token_file: b}",
            "at most one of bearer_token & bearer_token_file must be configured",
        ),
        (
            "{basic_auth: {}, oauth2: {}}",
            "at most one of basic_auth, oauth2 & authorization must be configured",
        ),
        (
            "{basic_auth: {}, authorization: {}}",
            "at most one of basic_auth, oauth2 & authorization must be configured",
        ),
        (
            "{authorization: {}, bearer_token: a}",
            "authorization is not compatible with bearer_token & bearer_token_file",
        ),
        (
            "{authorization: {type: Basic}}",
            "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
        ),
        ("{oauth2: {token_url: x}}", "oauth2 client_id must be configured"),
        ("{oauth2: {client_id: x}}", "oauth2 token_url must be configured"),
        (
            "{oauth2: {client_id: x, token_url: y, grant_type: jwt}}",
            "oauth2.grant_type: \"jwt\" is not supported",
        ),
        ("{no_proxy: x}", "if no_proxy is configured, proxy_url must also be configured"),
        (
            "{proxy_url: x, proxy_from_environment: true}",
            "if proxy_from_environment is configured, proxy_url must not be configured",
        ),
        (
            "{tls_config: {cert: x}}",
            "exactly one of key or key_file must be configured when a client certificate is configured",
        ),
        ("{tls_config: {ca: x, ca_file: y}}", "at most one of ca, ca_file & ca_ref must be configured"),
        ("{tls_config: {min_version: TLS09}}", "unknown TLS version: TLS09"),
        ("{http_headers: {user-agent: {values: [x]}}}", "setting header \"User-Agent\" is not allowed"),
        (
            "{basic_auth: {password_ref: x}}",
            "basic_auth.password_ref: references to secrets are not supported",
        ),
    ] {
        let options: HttpOptions = serde_norway::from_str(yaml).unwrap();
        assert_eq!(options.validate().unwrap_err().to_string(), expected, "{yaml}");
    }
    assert!(serde_norway::from_str::<HttpOptions>("{proxy: x}").is_err());
}

proptest::proptest! {
    #[test]
    fn a_secret_never_prints(text in "[a-z0-9]{1,20}") {
        let secret = Secret::new(format!("#{text}#"));
        for shown in [format!("{secret}"), format!("{secret:?}"), serde_json::to_string(&secret).unwrap()] {
            let written = ["#", text.as_str(), "#"].concat();
            proptest::prop_assert!(!shown.contains(&written) && shown.contains(REDACTED));
        }
    }
}
