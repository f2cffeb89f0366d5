//! Data sources in the file: documents with the fields of the management API, and an id or a word for
//! the default one, so that the same file gives the same addresses everywhere.

use std::path::Path;

use pilothouse_control::{DataSource, DeclaredSource, RemoteSettings, SourceId, SourceKind, SourceLimits};
use pilothouse_net::options::join;
use pilothouse_remote::{Kind, Settings};
use pilothouse_rules::format::yaml::Node;
use serde::Deserialize;
use serde_json::Value;

use super::secrets::{hidden, resolved};
use super::synthetic::{documents, each};
use super::values::{Setting, Wrong};

/// `data_sources`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct DeclaredSources {
    sources: Vec<DeclaredSource>,
    /// As they were written, secrets hidden.
    shown: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Option<String>,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    name: String,
    #[serde(rename = "type")]
    kind: String,
    backend: Option<String>,
    retention_days: Option<u32>,
    max_active_series: Option<u64>,
    max_log_streams: Option<u64>,
    remote: Option<Value>,
}

impl DeclaredSources {
    fn of(all: Vec<(DeclaredSource, Value)>) -> Self {
        let (sources, shown) = all.into_iter().map(|(source, value)| (source, shown(value))).unzip();
        Self { sources, shown }
    }

    /// With the paths of files that start at `directory` where they are relative.
    pub(super) fn below(&self, directory: &Path) -> Vec<DeclaredSource> {
        let mut sources = self.sources.clone();
        for source in &mut sources {
            let settings = source.remote.as_ref().map(|remote| serde_json::from_str(remote.expose()));
            if let Some(Ok(mut settings)) = settings {
                set_directory(directory, &mut settings);
                source.remote = Some(RemoteSettings::new(settings.to_string()));
            }
        }
        sources
    }
}

impl Setting for DeclaredSources {
    const ALLOWED: &'static str =
        "a list of data sources with the fields of the management API, id and default";

    fn from_text(text: &str) -> Result<Self, String> {
        documents(text)?.into_iter().map(source).collect::<Result<_, _>>().map(Self::of)
    }

    fn from_node(node: &Node) -> Result<Self, Wrong> {
        each(node, source).map(Self::of)
    }

    fn show(&self) -> Option<String> {
        Some(Value::from(self.shown.clone()).to_string())
    }
}

fn source(document: Value) -> Result<(DeclaredSource, Value), String> {
    let shown = document.clone();
    let written = Written::deserialize(resolved(document)?).map_err(|e| e.to_string())?;
    let kind = match written.kind.as_str() {
        "metrics" => (SourceKind::Metrics, Kind::Metrics),
        "logs" => (SourceKind::Logs, Kind::Logs),
        other => return Err(format!("type: {other:?} is neither metrics nor logs")),
    };
    let declared = DeclaredSource {
        id: id(&written)?,
        remote: remote(kind.1, &written)?,
        name: written.name,
        kind: kind.0,
        retention_days: retention_days(written.retention_days)?,
        limits: SourceLimits {
            max_active_series: written.max_active_series,
            max_log_streams: written.max_log_streams,
        },
    };
    Ok((declared, shown))
}

/// `None` for the default source. One whose id is not said has that of its type and name.
fn id(written: &Written) -> Result<Option<SourceId>, String> {
    match (&written.id, written.default) {
        (None, true) => Ok(None),
        (Some(_), true) => Err("id: the default data source has one already".to_owned()),
        _ if written.name.trim().is_empty() => Err("name: is wanted, or default: true".to_owned()),
        (Some(id), false) => id.parse().map(Some).map_err(|e| format!("id: {id:?} is {e}")),
        (None, false) => {
            let text = format!("data source of {}: {}", written.kind, written.name.trim());
            Ok(Some(SourceId::of_text(&text)))
        }
    }
}

fn retention_days(days: Option<u32>) -> Result<Option<u32>, String> {
    let range = DataSource::RETENTION_DAYS;
    match days {
        Some(days) if !range.contains(&days) => {
            Err(format!("retention_days: {days} is not between {} and {}", range.start(), range.end()))
        }
        days => Ok(days),
    }
}

fn remote(kind: Kind, written: &Written) -> Result<Option<RemoteSettings>, String> {
    let settings = match (written.backend.as_deref(), &written.remote) {
        (None | Some("local"), None) => return Ok(None),
        (None | Some("remote"), Some(settings)) => settings,
        (Some("remote"), None) => return Err("remote: is wanted with the backend remote".to_owned()),
        (Some("local"), Some(_)) => return Err("remote: stands with the backend remote alone".to_owned()),
        (Some(other), _) => return Err(format!("backend: {other:?} is neither local nor remote")),
    };
    let mut settings = settings.clone();
    // Without quotes these may be numbers to YAML.
    for key in ["protocol", "tenant"] {
        if let Some(number @ Value::Number(_)) = settings.get(key) {
            let text = number.to_string();
            settings[key] = text.into();
        }
    }
    Settings::read(kind, &settings).map_err(|e| e.to_string())?;
    Ok(Some(RemoteSettings::new(settings.to_string())))
}

/// Addresses for writes may have something secret behind a question mark.
fn shown(document: Value) -> Value {
    let mut document = hidden(document);
    if let Some(Value::String(url)) = document.pointer_mut("/remote/write_url")
        && let Some(end) = url.find('?')
    {
        url.truncate(end);
    }
    document
}

fn set_directory(directory: &Path, settings: &mut Value) {
    let Some(members) = settings.as_object_mut() else { return };
    for (name, value) in members {
        match value {
            Value::String(path) if name.ends_with("_file") => join(directory, path),
            Value::Array(paths) if name == "files" => paths.iter_mut().for_each(|path| {
                if let Value::String(path) = path {
                    join(directory, path);
                }
            }),
            other => set_directory(directory, other),
        }
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_rules::format::yaml::parse;

    use super::*;

    fn read(yaml: &str) -> Result<DeclaredSources, (usize, String)> {
        DeclaredSources::from_node(&parse(yaml).unwrap().unwrap()).map_err(|wrong| (wrong.line, wrong.why))
    }

    const SHOP: &str = "- name: shop\n  type: metrics\n  retention_days: 7\n  remote:\n    \
        write_url: http://m/push?token=hush\n    query_url: http://m/prometheus\n    protocol: 2.0\n    tenant: 42\n    \
        http_config:\n      basic_auth: {username: a, password: hush}\n      tls_config: {ca_file: ca.pem}\n      \
        http_headers: {X-A: {files: [a.secret]}}\n";

    #[test]
    fn sources_are_read_and_shown_without_secrets() {
        let all = read(SHOP).unwrap();
        let source = &all.below(Path::new("/etc/pilothouse"))[0];
        assert_eq!((source.name.as_str(), source.retention_days), ("shop", Some(7)));
        let settings = source.remote.as_ref().unwrap().expose();
        for expected in
            [r#""protocol":"2.0""#, r#""tenant":"42""#, "/etc/pilothouse/ca.pem", "/etc/pilothouse/a.secret"]
        {
            assert!(settings.contains(expected), "{settings}");
        }
        let shown = all.show().unwrap();
        assert!(!shown.contains("hush"), "{shown}");
        // The same name is the same source, wherever it is declared.
        let again = DeclaredSources::from_text(&shown).unwrap();
        assert_eq!(again.sources[0].id, source.id);
        assert_ne!(read("- {name: shop, type: logs}\n").unwrap().sources[0].id, source.id);
        assert_eq!(read("- {default: true, type: logs}\n").unwrap().sources[0].id, None);
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let id = "5a0f1c5e-7b34-4c8e-a1d6-5e0b93f47c18";
        for (item, expected) in [
            ("{type: logs}", "name: is wanted, or default: true"),
            ("{name: a, type: traces}", "type: \"traces\" is neither metrics nor logs"),
            ("{name: a}", "missing field `type`"),
            ("{name: a, type: logs, retention: 3}", "unknown field `retention`"),
            ("{name: a, type: logs, retention_days: 0}", "retention_days: 0 is not between 1 and 1825"),
            ("{name: a, type: logs, id: x}", "id: \"x\" is not a UUID"),
            (&format!("{{default: true, type: logs, id: {id}}}"), "has one already"),
            ("{name: a, type: logs, backend: remote}", "remote: is wanted"),
            ("{name: a, type: logs, backend: near}", "neither local nor remote"),
            ("{name: a, type: logs, backend: local, remote: {}}", "with the backend remote alone"),
            (
                "{name: a, type: logs, remote: {write_url: x}}",
                "remote.write_url: begins with http:// or https://",
            ),
            ("{name: a, type: logs, remote: {uri: x}}", "remote: unknown field `uri`"),
        ] {
            let (line, why) = read(&format!("- {{name: b, type: logs}}\n- {item}\n")).unwrap_err();
            assert!(line == 2 && why.contains(expected), "{item}: {line}: {why}");
        }
    }
}
