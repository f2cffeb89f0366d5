//! The one list of keys: name, kind, default, what a reload does with it, help.
//!
//! The file, the flags, the environment, `config print`, the reference page and the commented
//! sample are all made from it. Limits have a list of their own in `model::limits` and are the
//! keys below `limits`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pilothouse_model::limits::Limits;
use pilothouse_net::Secret;
use pilothouse_rules::format::yaml::Node;

use super::data_sources::DeclaredSources;
use super::scraping::{Global, Jobs};
use super::synthetic::{DeclaredChecks, StatusPages};
use super::values::{Address, AuthMode, BaseUrl, DurationMs, Setting, Wrong};
use crate::room::{Size, WhenFull};

/// What a change of a key does in a server that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// In force after a reload.
    Reload,
    /// In force after a restart.
    Restart,
}

/// What the list says of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// As the file has it; a dot stands between a mapping and its key.
    pub(crate) name: &'static str,
    /// The heading under which it is shown.
    pub(crate) group: &'static str,
    pub(crate) allowed: &'static str,
    pub(crate) change: Change,
    pub(crate) help: &'static str,
    /// Something worth copying where the default is nothing.
    pub(crate) example: &'static str,
}

impl Key {
    /// The flag without its dashes.
    pub(crate) fn flag(&self) -> String {
        self.name.replace(['_', '.'], "-")
    }
}

/// The variable of the environment that holds a key.
pub(crate) fn variable_of(key: &str) -> String {
    format!("PILOTHOUSE_{}", key.replace('.', "_").to_ascii_uppercase())
}

macro_rules! settings {
    ($( $group:literal { $(
        $name:literal => $field:ident: $kind:ty = $default:expr, $change:ident, $help:literal $(, e.g. $example:literal)?;
    )* } )*) => {
        /// Everything the operator may say, as it was said.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct Settings {
            $( $( #[doc = $help] pub(crate) $field: $kind, )* )*
            pub(crate) limits: Limits,
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $( $( $field: $default, )* )* limits: Limits::default() }
            }
        }

        /// All keys but limits, in the order in which they are shown.
        pub(crate) const KEYS: &[Key] = &[ $( $( Key {
            name: $name,
            group: $group,
            allowed: <$kind as Setting>::ALLOWED,
            change: Change::$change,
            help: $help,
            example: concat!($( $example )?),
        }, )* )* ];

        impl Settings {
            /// Sets a key from the file. `None` if there is no such key.
            pub(super) fn set_node(&mut self, key: &str, node: &Node) -> Option<Result<(), Wrong>> {
                match key {
                    $( $( $name => Some(<$kind>::from_node(node).map(|value| self.$field = value)), )* )*
                    _ => None,
                }
            }

            /// Sets a key from a flag or the environment. `None` if there is no such key.
            pub(super) fn set_text(&mut self, key: &str, text: &str) -> Option<Result<(), String>> {
                match key {
                    $( $( $name => Some(<$kind>::from_text(text).map(|value| self.$field = value)), )* )*
                    _ => None,
                }
            }

            /// A key's value as YAML on one line; `None` where it is unsaid.
            pub(crate) fn show(&self, key: &str) -> Option<String> {
                match key {
                    $( $( $name => self.$field.show(), )* )*
                    _ => None,
                }
            }

            /// Takes over what may change while the server runs, and names the keys whose change
            /// has to wait for a restart.
            pub(crate) fn take_reloaded(&mut self, next: &Self) -> Vec<String> {
                let mut waiting = Vec::new();
                $( $( match Change::$change {
                    Change::Reload => self.$field.clone_from(&next.$field),
                    Change::Restart if self.$field != next.$field => waiting.push($name.to_owned()),
                    Change::Restart => {}
                } )* )*
                for info in Limits::LIST {
                    let wanted = next.limits.get(info.name).unwrap_or(info.default);
                    if info.is_live {
                        self.limits.set(info.name, wanted);
                    } else if self.limits.get(info.name) != Some(wanted) {
                        waiting.push(format!("limits.{}", info.name));
                    }
                }
                waiting
            }
        }
    };
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|&text| text.to_owned()).collect()
}

settings! {
    "Server" {
        "data_dir" => data_dir: PathBuf = PathBuf::from("./pilothouse-data"), Restart,
            "Where data is kept.";
        "listen" => listen: Address = Address("127.0.0.1:9009".to_owned()), Restart,
            "Address to serve on, HTTP/1 and HTTP/2.";
        "tls_cert" => tls_cert: Option<PathBuf> = None, Restart,
            "Certificate chain in PEM; with it the listener speaks TLS. The file is read anew when it has changed.",
            e.g. "\"/etc/pilothouse/tls/cert.pem\"";
        "tls_key" => tls_key: Option<PathBuf> = None, Restart,
            "Private key of the certificate, in PEM.",
            e.g. "\"/etc/pilothouse/tls/key.pem\"";
        "tls_client_ca" => tls_client_ca: Option<PathBuf> = None, Restart,
            "Certificates in PEM, one of which must have signed what a client shows. Unsaid: clients show none.",
            e.g. "\"/etc/pilothouse/tls/clients.pem\"";
        "external_url" => external_url: Option<BaseUrl> = None, Restart,
            "Where clients reach this server. Unsaid: where each request came to.",
            e.g. "\"https://metrics.example.org\"";
        "auth" => auth: Option<AuthMode> = None, Restart,
            "Whether a token is asked for. Unsaid: off on a loopback address, and no start on any other.",
            e.g. "\"required\"";
        "allowed_origins" => allowed_origins: Vec<BaseUrl> = Vec::new(), Restart,
            "Origins whose pages may do all that pages of this server may, where no token is asked for: make silences, \
             change rules and the configuration. external_url is one by itself.",
            e.g. "[\"https://grafana.example.org\"]";
        "root_token" => root_token: Option<Secret> = None, Restart,
            "The token that may do everything. Unsaid: made when it is needed and kept in the data directory.",
            e.g. "\"file:/etc/pilothouse/root-token\"";
    }
    "Memory and disk" {
        "memory_limit" => memory_limit: Option<Size> = None, Restart,
            "Memory that the server may take. Near it caches shrink, at it the heaviest queries and then writes are \
             refused. 0: no limit. Unsaid: three quarters of the machine's, or of what its control group allows.",
            e.g. "512MiB";
        "disk_limit" => disk_limit: Option<Size> = None, Reload,
            "Disk space that all data may take together. Unsaid, or 0: no limit.",
            e.g. "20GB";
        "min_free_disk" => min_free_disk: Option<Size> = None, Reload,
            "Disk space that stays free. Unsaid: a twentieth of the disk, at most 1 GiB.",
            e.g. "500MB";
        "disk_full_policy" => disk_full_policy: WhenFull = WhenFull::Refuse, Reload,
            "When the disk is full: refuse writes until there is room, or drop the oldest day of all data first.";
    }
    "Data" {
        "retention" => retention: DurationMs = DurationMs(31 * 86_400_000), Reload,
            "How long samples and log lines are kept. 0 keeps for ever.";
        "data_sources" => data_sources: DeclaredSources = DeclaredSources::default(), Reload,
            "Partitions of the data with roots of their own, and settings of the default ones: name, type (metrics or logs), \
             retention_days, max_active_series, max_log_streams, remote, as the management API has them; id, or \
             default: true. What stands here is changed here alone. Relative paths in it start at the directory of this \
             file.",
            e.g. "[{default: true, type: metrics, remote: {write_url: \"http://mimir:9009/api/v1/push\", \
                  query_url: \"http://mimir:9009/prometheus\"}}]";
    }
    "Backup" {
        "s3.endpoint_url" => s3_endpoint_url: Option<String> = None, Restart,
            "Where backups to s3:// go. Unsaid: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL of the environment, else \
             Amazon's address of the region.",
            e.g. "\"https://s3.fr-par.scw.cloud\"";
        "s3.region" => s3_region: Option<String> = None, Restart,
            "Region of the bucket. Unsaid: AWS_REGION or AWS_DEFAULT_REGION, else us-east-1.",
            e.g. "\"fr-par\"";
        "s3.access_key_id" => s3_access_key_id: Option<String> = None, Restart,
            "Unsaid: AWS_ACCESS_KEY_ID.",
            e.g. "\"SCWXXXXXXXXXXXXXXXXX\"";
        "s3.secret_access_key" => s3_secret_access_key: Option<Secret> = None, Restart,
            "Unsaid: AWS_SECRET_ACCESS_KEY.",
            e.g. "\"file:/etc/pilothouse/s3-secret\"";
        "s3.session_token" => s3_session_token: Option<Secret> = None, Restart,
            "Goes with keys that hold for a while. Unsaid: AWS_SESSION_TOKEN.",
            e.g. "\"file:/etc/pilothouse/s3-session\"";
        "s3.path_style" => s3_path_style: bool = true, Restart,
            "Whether the bucket stands in the path of an address; else it stands in the name of the host.";
        "s3.ca_file" => s3_ca_file: Option<PathBuf> = None, Restart,
            "Certificates that the server of the bucket may be signed by, in PEM, besides those of the system. \
             Unsaid: AWS_CA_BUNDLE.",
            e.g. "\"/etc/pilothouse/tls/minio-ca.pem\"";
    }
    "Logs on their way in" {
        "discover_service_name" => discover_service_name: Vec<String> = super::enrichment().service_names, Restart,
            "Labels whose value becomes service_name where a stream has none, the first that is there. \
             Empty: it is not added.";
        "discover_log_levels" => discover_log_levels: bool = super::enrichment().detect_levels, Restart,
            "Whether entries get detected_level.";
        "log_level_fields" => log_level_fields: Vec<String> = super::enrichment().level_fields, Restart,
            "Names under which a level may stand in labels, metadata, and JSON or logfmt lines, in order of \
             precedence.";
        "log_level_json_depth" => log_level_json_depth: u32 = super::enrichment().level_json_depth, Restart,
            "How many levels of objects of a JSON line are searched for a level. 0: all.";
        "otlp_stream_attributes" => otlp_stream_attributes: Vec<String> = super::enrichment().otlp_stream_attributes,
            Restart,
            "Attributes of an OTLP resource that become labels of the stream; others become metadata.";
    }
    "Rules" {
        "rule_files" => rule_files: Vec<PathBuf> = Vec::new(), Reload,
            "Files, directories and patterns with rules over the default source of metrics.",
            e.g. "[\"/etc/pilothouse/rules/*.yaml\"]";
        "log_rule_files" => log_rule_files: Vec<PathBuf> = Vec::new(), Reload,
            "The same with rules over the default source of logs.",
            e.g. "[\"/etc/pilothouse/log-rules/*.yaml\"]";
        "log_rules_write_to" => log_rules_write_to: Option<String> = None, Restart,
            "Id or name of the source of metrics that takes what rules over logs record, and their ALERTS. Unsaid, \
             the default one.",
            e.g. "\"from-logs\"";
        "evaluation_interval" => evaluation_interval: DurationMs = DurationMs(60_000), Restart,
            "How often groups without an interval of their own are evaluated.";
        "external_labels" => external_labels: BTreeMap<String, String> = BTreeMap::new(), Restart,
            "Labels added to alerts that have no such label.",
            e.g. "{site: paris}";
    }
    "Scraping" {
        "global" => global: Global = Global::default(), Reload,
            "Defaults of all jobs, with the fields of Prometheus' section of that name. Its evaluation_interval and \
             external_labels hold where the keys of those names are unsaid, and need a restart.",
            e.g. "{scrape_interval: 15s}";
        "scrape_configs" => scrape_configs: Jobs = Jobs::default(), Reload,
            "Jobs that are scraped into the default source of metrics, with Prometheus' fields. Relative paths in them \
             start at the directory of this file.",
            e.g. "[{job_name: node, static_configs: [{targets: [\"localhost:9100\"]}]}]";
        "scrape_config_files" => scrape_config_files: Vec<String> = Vec::new(), Reload,
            "Patterns of files with further jobs below their own scrape_configs.",
            e.g. "[\"/etc/pilothouse/scrape.d/*.yaml\"]";
        "host_metrics" => host_metrics: bool = true, Restart,
            "Whether this host is watched under node_exporter's names, with the label job=\"node\". Linux alone.";
    }
    "Alerting" {
        "alertmanager_config_file" => alertmanager_config_file: Option<PathBuf> = None, Reload,
            "Alertmanager's configuration, in force as long as none is stored through the API. The file is read \
             again at a reload.",
            e.g. "\"/etc/pilothouse/alertmanager.yaml\"";
        "heartbeat_url" => heartbeat_url: Option<Secret> = None, Restart,
            "Called every minute as long as notifications can be sent, so that silence can be noticed elsewhere.",
            e.g. "\"https://ping.example.org/pilothouse\"";
        "smtp_smarthost" => smtp_smarthost: Option<String> = None, Restart,
            "Server that takes mail for contact points, as host:port. Unsaid, they get theirs as Alertmanager's \
             configuration says for all receivers.",
            e.g. "\"mail.example.org:587\"";
        "smtp_from" => smtp_from: String = String::new(), Restart,
            "Sender of that mail.",
            e.g. "\"pilothouse@example.org\"";
        "smtp_hello" => smtp_hello: String = "localhost".to_owned(), Restart,
            "What this server calls itself there.";
        "smtp_auth_username" => smtp_auth_username: String = String::new(), Restart,
            "Who it logs in as; unsaid, it does not log in.";
        "smtp_auth_password" => smtp_auth_password: Option<Secret> = None, Restart,
            "Password of that login.",
            e.g. "\"secret\"";
        "smtp_require_tls" => smtp_require_tls: bool = true, Restart,
            "Whether mail goes out over TLS alone.";
    }
    "Synthetic checks" {
        "synthetic.probe_name" => synthetic_probe_name: String = "pilothouse".to_owned(), Restart,
            "Name of the built-in probe.";
        "synthetic.probe_region" => synthetic_probe_region: String = String::new(), Restart,
            "Its region, a label of what it measures.";
        "synthetic.probe_latitude" => synthetic_probe_latitude: f32 = 0.0, Restart,
            "Where it stands on a map, in degrees.";
        "synthetic.probe_longitude" => synthetic_probe_longitude: f32 = 0.0, Restart,
            "Where it stands on a map, in degrees.";
        "synthetic.forbidden_targets" => synthetic_forbidden_targets: Vec<String> = texts(&["link-local", "metadata"]),
            Restart,
            "Addresses that no check of the built-in probe may reach: ranges as 10.0.0.0/8, or loopback, private, \
             link-local, metadata.";
        "synthetic.checks" => synthetic_checks: DeclaredChecks = DeclaredChecks::default(), Reload,
            "Checks of the built-in probe, with the fields of the Synthetic Monitoring API, and alerts beside them. \
             `$${` stands for `${` in them.",
            e.g. "[{job: front, target: \"https://example.org/\", frequency: 60000, timeout: 3000, enabled: true, \
                  settings: {http: {}}}]";
        "synthetic.status_pages" => synthetic_status_pages: StatusPages = StatusPages::default(), Reload,
            "Pages at /status/NAME: name, title, public (shown without a token), show_targets, and which checks: \
             jobs, labels, or all of them where neither is said.",
            e.g. "[{name: public, title: Our services, public: true, jobs: [front]}]";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_explained_and_its_default_reads_back() {
        let defaults = Settings::default();
        for key in KEYS {
            assert!(key.help.ends_with('.'), "{}", key.name);
            let shown = defaults.show(key.name);
            assert!(shown.is_some() || !key.example.is_empty(), "{}", key.name);
        }
    }

    /// A value of each key that is not its default.
    const OTHERS: &[(&str, &str)] = &[
        ("data_dir", "/x"),
        ("listen", "127.0.0.1:1"),
        ("tls_cert", "/x"),
        ("tls_key", "/x"),
        ("tls_client_ca", "/x"),
        ("external_url", "https://x"),
        ("auth", "required"),
        ("allowed_origins", "https://x"),
        ("root_token", "x"),
        ("memory_limit", "1GB"),
        ("disk_limit", "1GB"),
        ("min_free_disk", "1GB"),
        ("disk_full_policy", "drop-oldest"),
        ("retention", "1d"),
        ("data_sources", r#"[{"name": "x", "type": "logs"}]"#),
        ("s3.endpoint_url", "https://x"),
        ("s3.region", "x"),
        ("s3.access_key_id", "x"),
        ("s3.secret_access_key", "x"),
        ("s3.session_token", "x"),
        ("s3.path_style", "false"),
        ("s3.ca_file", "/x"),
        ("discover_service_name", "x"),
        ("discover_log_levels", "false"),
        ("log_level_fields", "x"),
        ("log_level_json_depth", "7"),
        ("otlp_stream_attributes", "x"),
        ("rule_files", "x"),
        ("log_rule_files", "x"),
        ("log_rules_write_to", "x"),
        ("evaluation_interval", "1s"),
        ("external_labels", "a=b"),
        ("global", r#"{"scrape_interval": "7s"}"#),
        ("scrape_configs", r#"[{"job_name": "x"}]"#),
        ("scrape_config_files", "x"),
        ("host_metrics", "false"),
        ("alertmanager_config_file", "x"),
        ("heartbeat_url", "http://x"),
        ("smtp_smarthost", "x:25"),
        ("smtp_from", "x"),
        ("smtp_hello", "x"),
        ("smtp_auth_username", "x"),
        ("smtp_auth_password", "x"),
        ("smtp_require_tls", "false"),
        ("synthetic.probe_name", "x"),
        ("synthetic.probe_region", "x"),
        ("synthetic.probe_latitude", "1"),
        ("synthetic.probe_longitude", "1"),
        ("synthetic.forbidden_targets", "private"),
        ("synthetic.checks", r#"[{"job": "x", "target": "http://x/", "settings": {"http": {}}}]"#),
        ("synthetic.status_pages", r#"[{"name": "x"}]"#),
    ];

    #[test]
    fn a_change_of_any_key_is_taken_over_or_named() {
        for key in KEYS {
            let (_, other) = OTHERS.iter().find(|(name, _)| *name == key.name).unwrap();
            let (mut current, mut next) = (Settings::default(), Settings::default());
            next.set_text(key.name, other).unwrap().unwrap();
            let waiting = current.take_reloaded(&next);
            match key.change {
                Change::Reload => assert_eq!((&current, waiting), (&next, vec![]), "{}", key.name),
                Change::Restart => {
                    assert_eq!((current, waiting), (Settings::default(), vec![key.name.to_owned()]));
                }
            }
        }
    }

    #[test]
    fn a_change_of_any_limit_is_taken_over_or_named() {
        for info in Limits::LIST {
            let (mut current, mut next) = (Settings::default(), Settings::default());
            next.limits.set(info.name, 7);
            let waiting = current.take_reloaded(&next);
            if info.is_live {
                assert_eq!((current, waiting), (next, vec![]), "{}", info.name);
            } else {
                let named = vec![format!("limits.{}", info.name)];
                assert_eq!((current, waiting), (Settings::default(), named));
            }
        }
    }
}
