use std::path::Path;

use super::*;

/// Flags with keys and texts.
pub(crate) fn flags(values: &[(&str, &str)]) -> Flags {
    let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Flags { values, ..Flags::default() }
}

fn from_yaml(flags: Flags, yaml: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    std::fs::write(&path, yaml).unwrap();
    let environment = |name: &str| match name {
        "SITE" => Some("paris".to_owned()),
        "PILOTHOUSE_LISTEN" => Some("127.0.0.1:3".to_owned()),
        "PILOTHOUSE_LIMITS_MAX_TAILS" => Some("4".to_owned()),
        "PILOTHOUSE_MAX_LOG_STREAMS" => Some("6".to_owned()),
        "PILOTHOUSE_PORT" => Some("tcp://10.0.0.1:9009".to_owned()),
        _ => None,
    };
    load_with(&Flags { config: Some(path), ..flags }, &environment).map_err(|e| e.to_string())
}

#[test]
fn defaults_are_those_of_the_manual() {
    let config = load_with(&Flags::default(), &|_| None).unwrap();
    assert_eq!(config.listen, "127.0.0.1:9009");
    assert_eq!(config.data_dir, Path::new("./pilothouse-data"));
    assert_eq!(config.retention_ms, 31 * 86_400_000);
    assert_eq!((config.auth, &config.limits), (AuthMode::Off, &Limits::default()));
    assert_eq!(config.enrichment, Enrichment::default());
}

#[test]
fn a_flag_wins_over_the_environment_the_environment_over_the_file_the_file_over_the_default() {
    let yaml = "listen: 127.0.0.1:1\nretention: 0\nauth: off\ndiscover_service_name: []\n\
                limits: {max_query_depth: 9, max_tails: 3, max_body_bytes: 4MiB}\ndiscover_log_levels: false\n\
                external_labels: {site: '${SITE}'}\nsynthetic:\n  probe_name: here\nexternal_url:\nmax_active_series: 77\n";
    let config = from_yaml(Flags::default(), yaml).unwrap();
    assert_eq!((config.listen.as_str(), config.retention_ms), ("127.0.0.1:3", 0));
    assert_eq!(config.rules.external_labels.value("site"), "paris");
    assert_eq!(config.synthetic.probe_name, "here");
    let limits = &config.limits;
    assert_eq!((limits.max_query_depth, limits.max_tails, limits.max_body_bytes), (9, 4, 4 << 20));
    assert_eq!((limits.max_active_series, limits.max_log_streams), (77, 6));
    let expected = Enrichment { detect_levels: false, service_names: Vec::new(), ..Enrichment::default() };
    assert_eq!(config.enrichment, expected);

    let mut flags = flags(&[("listen", "127.0.0.1:2"), ("limits.max_active_series", "7")]);
    flags.limits = vec!["max_query_depth=8".into(), "max_body_bytes = 5".into()];
    let config = from_yaml(flags, yaml).unwrap();
    assert_eq!(config.listen, "127.0.0.1:2");
    let limits = &config.limits;
    assert_eq!((limits.max_active_series, limits.max_query_depth, limits.max_body_bytes), (7, 8, 5));
    assert_eq!(config.origins["listen"], "--listen");
    assert_eq!(config.origins["limits.max_tails"], "PILOTHOUSE_LIMITS_MAX_TAILS");
    assert!(config.origins["retention"].ends_with("c.yaml:2"));
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_what_would_do() {
    for (yaml, expected) in [
        ("\nlistem: x", "c.yaml:2: listem: is not a key; listen is"),
        (
            "limits: {max_qeury_depth: 1}",
            "c.yaml:1: limits.max_qeury_depth: is not a key; limits.max_query_depth is",
        ),
        ("max_tails: 1", "max_tails: is not a key; limits.max_tails is"),
        ("probe_name: x", "probe_name: is not a key; synthetic.probe_name is"),
        ("completely_unlike_anything: 1", "config reference"),
        ("retention: 5 days", "c.yaml:1: retention: \"5 days\" will not do: a duration"),
        ("rule_files:\n  - a\n  - {b: c}", "c.yaml:3: rule_files: is a mapping"),
        ("auth: maybe", "off or required"),
        ("external_url: example.org/", "without a trailing slash"),
        ("limits:\n  max_active_series: many", "c.yaml:2: limits.max_active_series: \"many\""),
        ("max_log_streams: many", "c.yaml:1: limits.max_log_streams: \"many\""),
        ("limits: 5", "limits: a mapping of keys"),
        ("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2", "c.yaml:2: listen: is said twice"),
        ("root_token: ${NO_SUCH}", "no variable NO_SUCH"),
        ("root_token: file:/no/such/file", "/no/such/file"),
        ("evaluation_interval: 0", "above zero"),
        ("synthetic:\n  forbidden_targets: [nowhere]", "c.yaml:2: synthetic.forbidden_targets"),
        (
            "synthetic:\n  checks: [{job: a, target: x, frequency: 1000, timeout: 1000, settings: {http: {}}}]",
            "c.yaml:2: synthetic.checks: Invalid incoming check: job \"a\": invalid HTTP URL",
        ),
        ("a: [", "yaml: line"),
        ("- a", "a mapping of keys"),
    ] {
        let error = from_yaml(Flags::default(), yaml).unwrap_err();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
    let two = from_yaml(Flags::default(), "a: 1\nretention: x\n").unwrap_err();
    assert_eq!(two.lines().count(), 2, "{two}");
}

#[test]
fn a_variable_that_is_nearly_a_key_is_told() {
    for (variable, told) in [
        ("PILOTHOUSE_RETENTON", Some("PILOTHOUSE_RETENTION")),
        ("PILOTHOUSE_LIMITS_MAX_TAIL", Some("PILOTHOUSE_LIMITS_MAX_TAILS")),
        ("PILOTHOUSE_RETENTION", None),
        ("PILOTHOUSE_PORT", None),
        ("PILOTHOUSE_SERVICE_HOST", None),
        ("RETENTION", None),
    ] {
        let found = layers::misspelt(variable);
        assert_eq!(found.is_some(), told.is_some(), "{variable}: {found:?}");
        assert!(found.unwrap_or_default().contains(told.unwrap_or_default()), "{variable}");
    }
}

#[test]
fn authentication_follows_the_address_unless_it_is_said() {
    let with = |listen: &str, auth: Option<&str>| {
        let mut values = vec![("listen", listen)];
        values.extend(auth.map(|auth| ("auth", auth)));
        load_with(&flags(&values), &|_| None).map(|c| (c.auth, c.warnings.len())).ok()
    };
    for listen in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
        assert_eq!(with(listen, None), Some((AuthMode::Off, 0)), "{listen}");
    }
    assert_eq!(with("0.0.0.0:1", None), None);
    assert_eq!(with("0.0.0.0:1", Some("off")), Some((AuthMode::Off, 1)));
    assert_eq!(with("0.0.0.0:1", Some("required")), Some((AuthMode::Required, 0)));
}

#[test]
fn the_shown_configuration_reads_back_and_hides_secrets() {
    let values = [("root_token", "s3cret"), ("external_labels", "a=b"), ("retention", "36h")];
    let config = load_with(&flags(&values), &|_| None).unwrap();
    let yaml = config.to_yaml();
    assert!(!yaml.contains("s3cret"));
    let again = load_text(&yaml).unwrap();
    assert_eq!(again.settings.show("root_token"), config.settings.show("root_token"));
    assert_eq!((&again.limits, &again.enrichment), (&config.limits, &config.enrichment));
    assert_eq!((&again.rules, again.retention_ms), (&config.rules, config.retention_ms));
}

fn load_text(yaml: &str) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    layers.add_file("c.yaml", yaml, &|_| None);
    resolve(layers)
}

#[test]
fn the_sample_says_the_defaults_and_every_key_of_it_is_one() {
    assert_eq!(load_text(&sample()).unwrap().settings, Settings::default());
    // Comments that hold a key have no space after their sign.
    let uncommented: Vec<&str> = sample_lines();
    let text = uncommented.join("\n");
    let mut layers = Layers::default();
    layers.add_file("sample", &text, &|_| None);
    let faults: Vec<String> = layers.faults.iter().map(ToString::to_string).collect();
    // The files that examples name are not there.
    assert!(faults.iter().all(|fault| fault.contains("cannot read /etc/pilothouse")), "{faults:?}");
}

fn sample_lines() -> Vec<&'static str> {
    let sample: &'static str = Box::leak(sample().into_boxed_str());
    let keys = sample.lines().filter(|line| !line.starts_with("# "));
    keys.map(|line| line.strip_prefix('#').unwrap_or(line)).collect()
}

#[test]
fn the_server_is_reached_where_it_listens_unless_it_is_said() {
    for (yaml, local, expected) in [
        ("", "127.0.0.1:9009", "http://127.0.0.1:9009"),
        ("", "0.0.0.0:80", "http://127.0.0.1:80"),
        ("", "[::]:80", "http://[::1]:80"),
        ("external_url: https://a.example", "0.0.0.0:80", "https://a.example"),
    ] {
        assert_eq!(load_text(yaml).unwrap().url(local.parse().unwrap()), expected);
    }
}

#[test]
fn a_reload_takes_what_it_can() {
    let before = load_text("retention: 1d\nlisten: 127.0.0.1:1\n").unwrap();
    let after = load_text("retention: 2d\nlisten: 127.0.0.1:2\nrule_files: [a]\n").unwrap();
    let (now, waiting) = before.reloaded(&after).unwrap();
    assert_eq!((now.retention_ms, now.listen.as_str()), (2 * 86_400_000, "127.0.0.1:1"));
    assert_eq!((now.rules.files.len(), waiting), (1, vec!["listen".to_owned()]));
}

/// The pages that are made from the list.
#[test]
fn the_generated_pages_are_up_to_date() {
    for (page, made, how) in [
        ("configuration.md", markdown(), "config reference"),
        ("pilothouse.example.yaml", sample(), "config print --sample"),
    ] {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).join(page);
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == made, "docs/{page} is old: pilothouse {how} > docs/{page}");
    }
}
