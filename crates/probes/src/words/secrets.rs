//! Secrets within the settings of checks: lists show a mask in their place, and an update that
//! brings the mask back keeps what is there.
//!
//! A secret is what authenticates: passwords, tokens, keys, and the values of the headers that
//! carry them. Addresses and bodies are shown as they are; who puts a password there shows it.

use super::check::Check;
use super::multihttp::MultiHttpSettings;
use super::settings::{CheckSettings, HttpSettings};
use super::tenant::Remote;
use super::tls::{BasicAuth, OAuth2Config, TlsConfig};

const MASK: &str = Remote::MASK;

/// Parts of names of headers whose values are secrets.
const SECRET_HEADERS: [&str; 6] = ["authorization", "cookie", "token", "secret", "password", "api-key"];

impl Check {
    /// As lists show it, and as everybody sees who does not own it.
    pub fn masked(mut self) -> Self {
        if let Some(settings) = &mut self.settings {
            each_secret(settings, &mut |_, secret| secret.mask());
        }
        self
    }

    /// Where the mask was sent back, the secret that stands at the same place in `before`.
    pub(crate) fn with_secrets_of(mut self, before: &Self) -> Self {
        let mut known: Vec<(String, Vec<u8>)> = Vec::new();
        if let Some(mut settings) = before.settings.clone() {
            each_secret(&mut settings, &mut |place, secret| known.push((place, secret.bytes())));
        }
        if let Some(settings) = &mut self.settings {
            each_secret(settings, &mut |place, mut secret| {
                if secret.is_masked()
                    && let Some((_, value)) = known.iter().find(|(known, _)| *known == place)
                {
                    secret.set(value);
                }
            });
        }
        self
    }
}

/// A place that may hold a secret; an empty one holds none.
enum Place<'a> {
    Text(&'a mut String),
    Bytes(&'a mut Vec<u8>),
    /// `Name: value`, of which the value is secret.
    Header(&'a mut String),
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Bytes(bytes) => (*bytes).clone(),
            Self::Header(line) => header_value(line).as_bytes().to_vec(),
        }
    }

    fn is_masked(&self) -> bool {
        self.bytes() == MASK.as_bytes()
    }

    fn mask(mut self) {
        if !self.bytes().is_empty() {
            self.set(MASK.as_bytes());
        }
    }

    fn set(&mut self, value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        match self {
            Self::Text(place) => **place = text(),
            Self::Bytes(place) => **place = value.to_vec(),
            Self::Header(line) => {
                let name = line.split_once(':').map_or("", |(name, _)| name).to_owned();
                **line = format!("{name}: {}", text());
            }
        }
    }
}

fn header_value(line: &str) -> &str {
    line.split_once(':').map_or("", |(_, value)| value.trim())
}

fn is_secret(header: &str) -> bool {
    let name = header.trim().to_ascii_lowercase();
    SECRET_HEADERS.iter().any(|part| name.contains(part))
}

type Visit<'v> = &'v mut dyn FnMut(String, Place<'_>);

/// Every place of the settings that may hold a secret, with a name that is the same in the next
/// version of the check.
fn each_secret(settings: &mut CheckSettings, visit: Visit<'_>) {
    if let Some(http) = &mut settings.http {
        of_http(http, visit);
    }
    let tls = [
        settings.tcp.as_mut().and_then(|tcp| tcp.tls_config.as_mut()),
        settings.grpc.as_mut().and_then(|grpc| grpc.tls_config.as_mut()),
    ];
    tls.into_iter().flatten().for_each(|tls| of_tls("tls", tls, visit));
    if let Some(multihttp) = &mut settings.multihttp {
        of_multihttp(multihttp, visit);
    }
}

fn of_http(http: &mut HttpSettings, visit: Visit<'_>) {
    visit("bearer".to_owned(), Place::Text(&mut http.bearer_token));
    if let Some(BasicAuth { password, .. }) = &mut http.basic_auth {
        visit("basic".to_owned(), Place::Text(password));
    }
    if let Some(tls) = &mut http.tls_config {
        of_tls("tls", tls, visit);
    }
    if let Some(OAuth2Config { client_secret, tls_config, .. }) = &mut http.oauth2_config {
        visit("oauth2".to_owned(), Place::Text(client_secret));
        if let Some(tls) = tls_config {
            of_tls("oauth2 tls", tls, visit);
        }
    }
    for (of, lines) in [("header", &mut http.headers), ("connect", &mut http.proxy_connect_headers)] {
        for line in lines {
            let name = line.split_once(':').map_or("", |(name, _)| name).to_owned();
            if is_secret(&name) {
                visit(format!("{of} {}", name.trim().to_ascii_lowercase()), Place::Header(line));
            }
        }
    }
}

fn of_tls(place: &str, tls: &mut TlsConfig, visit: Visit<'_>) {
    visit(format!("{place} key"), Place::Bytes(&mut tls.client_key));
}

fn of_multihttp(multihttp: &mut MultiHttpSettings, visit: Visit<'_>) {
    for (number, entry) in multihttp.entries.iter_mut().enumerate() {
        let headers = entry.request.iter_mut().flat_map(|request| &mut request.headers);
        for header in headers.filter(|header| is_secret(&header.name)) {
            let place = format!("request {number} {}", header.name.to_ascii_lowercase());
            visit(place, Place::Text(&mut header.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{HttpHeader, MultiHttpEntry, MultiHttpRequest, TcpSettings};

    fn http() -> Check {
        let tls = || Some(TlsConfig { client_key: b"s3cret-key".to_vec(), ..TlsConfig::default() });
        let http = HttpSettings {
            headers: vec!["Accept: a/b".into(), "X-Api-Key: s3cret-header".into()],
            bearer_token: "s3cret-bearer".into(),
            basic_auth: Some(BasicAuth { username: "me".into(), password: "s3cret-basic".into() }),
            tls_config: tls(),
            proxy_connect_headers: vec!["Proxy-Authorization: s3cret-connect".into()],
            oauth2_config: Some(OAuth2Config {
                client_id: "id".into(),
                client_secret: "s3cret-oauth".into(),
                tls_config: tls(),
                ..OAuth2Config::default()
            }),
            ..HttpSettings::default()
        };
        of(CheckSettings { http: Some(http), ..CheckSettings::default() })
    }

    fn of(settings: CheckSettings) -> Check {
        Check { settings: Some(settings), ..Check::default() }
    }

    fn others() -> [Check; 2] {
        let headers = vec![HttpHeader { name: "Cookie".into(), value: "s3cret-cookie".into() }];
        let request = Some(MultiHttpRequest { headers, ..MultiHttpRequest::default() });
        let entries = vec![MultiHttpEntry { request, ..MultiHttpEntry::default() }];
        let multihttp = MultiHttpSettings { entries, ..MultiHttpSettings::default() };
        let tls = TlsConfig { client_key: b"s3cret-key".to_vec(), ..TlsConfig::default() };
        let tcp = TcpSettings { tls_config: Some(tls), ..TcpSettings::default() };
        [
            of(CheckSettings { multihttp: Some(multihttp), ..CheckSettings::default() }),
            of(CheckSettings { tcp: Some(tcp), ..CheckSettings::default() }),
        ]
    }

    #[test]
    fn a_masked_check_holds_no_secret_and_gives_all_back() {
        for check in others().into_iter().chain([http()]) {
            let masked = check.clone().masked();
            let text = serde_json::to_string(&masked).unwrap();
            assert!(!text.contains("s3cret") && !text.contains("czNjcmV0"), "{text}");
            assert_eq!(masked.with_secrets_of(&check), check);
        }
    }

    #[test]
    fn what_is_said_anew_stands_and_what_is_empty_stays_so() {
        let mut changed = http().masked();
        if let Some(http) = changed.settings.as_mut().and_then(|s| s.http.as_mut()) {
            http.bearer_token = "another".into();
            http.basic_auth = None;
        }
        let changed = changed.with_secrets_of(&http());
        let http = changed.settings.and_then(|s| s.http).unwrap();
        assert_eq!((http.bearer_token.as_str(), http.basic_auth), ("another", None));
        assert_eq!(http.headers[1], "X-Api-Key: s3cret-header");
        let plain = of(CheckSettings { http: Some(HttpSettings::default()), ..CheckSettings::default() });
        assert_eq!(plain.clone().masked(), plain);
    }

    #[test]
    fn nothing_of_the_settings_is_printed() {
        for check in others().into_iter().chain([http()]) {
            let printed = format!("{check:?}");
            assert!(!printed.contains("s3cret") && !printed.contains("115, 51"), "{printed}");
        }
    }
}
