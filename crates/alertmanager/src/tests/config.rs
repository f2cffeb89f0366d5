//! Configurations that are taken, and the words in which others are refused.

use pilothouse_model::limits::Limits;

use crate::config::{Config, Document};

fn error(yaml: &str) -> String {
    Config::load(yaml).map(|_| "taken".to_owned()).unwrap_or_else(|e| e.0)
}

/// Aliases are measured by another parser than the one that reads; what is wrong is told by the latter.
#[test]
fn a_slip_in_a_long_file_is_told_rather_than_its_aliases() {
    let long = "# - receiver: 'a * b & c'\n".repeat(9_000);
    let aliases = "- [*a, &b c, *b]\n".repeat(50);
    let broken = error(&format!("route: &a {{receiver: r}}\nx: ]\n{long}{aliases}"));
    assert!(broken.contains("line 2") && !broken.contains("repetition"), "{broken}");
    let repeated = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 200].join(","));
    assert_eq!(error(&repeated), "yaml: repetition limit exceeded");
    let broken = error(&format!("{repeated}c: ]\n"));
    assert_eq!(broken, "yaml: repetition limit exceeded", "nobody goes so far");
}

fn with_receiver(receiver: &str) -> String {
    format!("route: {{receiver: r}}\nreceivers:\n- name: r\n  {receiver}\n")
}

#[test]
fn what_is_wrong_is_said_in_alertmanagers_words() {
    let r = "receivers: [{name: r}]";
    for (yaml, expected) in [
        ("", "no route provided in config"),
        (r, "no routes provided"),
        ("route: {receiver: r}", "undefined receiver \"r\" used in route"),
        ("route: {}\nreceivers: [{name: r}]", "root route must specify a default receiver"),
        (
            "route: {receiver: r}\nreceivers: [{name: r}, {name: r}]",
            "notification config name \"r\" is not unique",
        ),
        ("route: {receiver: r}\nreceivers: [{}]", "missing name in receiver"),
        (
            "route: {receiver: r, matchers: ['a=b']}\nreceivers: [{name: r}]",
            "root route must not have any matchers",
        ),
        (
            "route: {receiver: r, match: {a: b}}\nreceivers: [{name: r}]",
            "root route must not have any matchers",
        ),
        (
            "route: {receiver: r, mute_time_intervals: [x]}\nreceivers: [{name: r}]",
            "root route must not have any mute time intervals",
        ),
        (
            "route: {receiver: r, active_time_intervals: [x]}\nreceivers: [{name: r}]",
            "root route must not have any active time intervals",
        ),
        (
            "route: {receiver: r, continue: true}\nreceivers: [{name: r}]",
            "cannot have continue in root route",
        ),
        ("route: {receiver: r, group_interval: 0s}\nreceivers: [{name: r}]", "group_interval cannot be zero"),
        (
            "route: {receiver: r, repeat_interval: 0s}\nreceivers: [{name: r}]",
            "repeat_interval cannot be zero",
        ),
        (
            "route: {receiver: r, group_by: [a, a]}\nreceivers: [{name: r}]",
            "duplicated label \"a\" in group_by",
        ),
        (
            "route: {receiver: r, group_by: ['...', a]}\nreceivers: [{name: r}]",
            "cannot have wildcard group_by (`...`) and other labels at the same time",
        ),
        (
            "route: {receiver: r, routes: [{mute_time_intervals: [x]}]}\nreceivers: [{name: r}]",
            "undefined time interval \"x\" used in route",
        ),
        ("route: {receiver: r, routes: [{matchers: [a]}]}\nreceivers: [{name: r}]", "bad matcher format: a"),
        (
            "route: {receiver: r}\nreceivers: [{name: r}]\nfoo: 1",
            "yaml: unmarshal errors:\n  line 3: field foo not found in type config.plain",
        ),
        ("route: {receiver: r, group_wait: x}\nreceivers: [{name: r}]", "not a valid duration string: \"x\""),
        (
            "route: {receiver: r}\nreceivers: [{name: r}]\ntime_intervals: [{name: a}, {name: a}]",
            "time interval \"a\" is not unique",
        ),
        (
            "global: {slack_api_url: 'http://x/', slack_api_url_file: f}\nroute: {receiver: r}\nreceivers: [{name: r}]",
            "at most one of slack_api_url & slack_api_url_file must be configured",
        ),
    ] {
        let got = error(yaml);
        assert!(got.contains(expected), "{yaml}\n{got}\n{expected}");
    }
}

#[test]
fn receivers_are_refused_by_the_field_that_is_wrong() {
    for (receiver, expected) in [
        ("webhook_configs: [{url: 'ftp://x'}]", "unsupported scheme \"ftp\" for URL"),
        ("webhook_configs: [{url: 'http://'}]", "missing host for URL"),
        ("webhook_configs: [{}]", "one of url or url_file must be configured"),
        ("webhook_configs: [null]", "missing webhook config"),
        ("webhook_configs: [{url: 'http://x', nope: 1}]", "field nope not found in type"),
        ("email_configs: [{to: a@b, from: c@d}]", "no global SMTP smarthost set"),
        ("email_configs: [{from: c@d, smarthost: 'x:25'}]", "missing to address in email config"),
        ("email_configs: [{to: a@b, smarthost: 'x:25'}]", "no global SMTP from set"),
        ("pagerduty_configs: [{description: x}]", "missing service or routing key in PagerDuty config"),
        ("slack_configs: [{channel: x}]", "no global Slack API URL set either inline or in a file"),
        ("opsgenie_configs: [{message: x}]", "no global OpsGenie API Key set either inline or in a file"),
        ("telegram_configs: [{bot_token: x}]", "missing chat_id"),
        ("telegram_configs: [{chat_id: 1}]", "missing bot_token or bot_token_file on telegram_config"),
        ("webex_configs: [{room_id: x}]", "missing webex_configs.http_config.authorization"),
        ("victorops_configs: [{api_key: x}]", "missing Routing key in VictorOps config"),
        ("wechat_configs: [{api_secret: x}]", "no global Wechat CorpID set"),
        (
            "sns_configs: [{topic_arn: x, phone_number: y}]",
            "must provide either a Target ARN, Topic ARN, or Phone Number",
        ),
        ("sns_configs: [{topic_arn: x, sigv4: {role_arn: y}}]", "sigv4.role_arn: not supported"),
        ("jira_configs: [{project: x, api_url: 'http://j'}]", "missing issue_type in jira_config"),
        ("rocketchat_configs: [{channel: x}]", "no global Rocketchat TokenID set"),
        (
            "mattermost_configs: [{channel: x}]",
            "missing webhook_url or webhook_url_file on mattermost_config",
        ),
        ("discord_configs: [{title: x}]", "one of webhook_url or webhook_url_file must be configured"),
        ("incidentio_configs: [{url: 'http://i', http_config: {}}]", "at least one of alert_source_token"),
        ("pushover_configs: [{token: x}]", "one of user_key or user_key_file must be configured"),
        ("slack_configs: [{api_url: 'http://x', update_message: true}]", "update_message"),
        (
            "webhook_configs: [{url: 'http://x', http_config: {basic_auth: {}, bearer_token: x}}]",
            "at most one of basic_auth, oauth2, bearer_token",
        ),
        (
            "webhook_configs: [{url: 'http://x', http_config: {tls_config: {max_version: TLS11}}}]",
            "tls_config.max_version",
        ),
    ] {
        let got = error(&with_receiver(receiver));
        assert!(got.contains(expected), "{receiver}\n{got}");
    }
}

#[test]
fn all_kinds_are_taken_and_none_shows_a_secret() {
    let yaml = "
global:
  smtp_smarthost: mail:25
  smtp_from: am@example.org
  smtp_auth_password: s3cret
  slack_api_url: https://hooks/s3cret
route: {receiver: r, routes: [{matchers: ['a=\"b\"'], group_by: [x]}]}
receivers:
- name: r
  webhook_configs: [{url: 'http://h/s3cret', http_config: {basic_auth: {username: u, password: s3cret}}}]
  email_configs: [{to: a@example.org}]
  slack_configs: [{channel: 5}]
  pagerduty_configs: [{routing_key: s3cret}]
  opsgenie_configs: [{api_key: s3cret}]
  discord_configs: [{webhook_url: 'http://d/s3cret'}]
  telegram_configs: [{bot_token: s3cret, chat_id: -42}]
  msteams_configs: [{webhook_url: 'http://d/s3cret'}]
  msteamsv2_configs: [{webhook_url: 'http://d/s3cret'}]
  pushover_configs: [{user_key: s3cret, token: s3cret, retry: 30s}]
  victorops_configs: [{api_key: s3cret, routing_key: r}]
  webex_configs: [{room_id: r, http_config: {authorization: {credentials: s3cret}}}]
  sns_configs: [{topic_arn: 'arn:aws:sns:eu-west-1:1:t', sigv4: {access_key: a, secret_key: s3cret}}]
  wechat_configs: [{api_secret: s3cret, corp_id: c}]
  jira_configs: [{api_url: 'http://j', project: P, issue_type: Bug, summary: {template: x, enable_update: false}}]
  rocketchat_configs: [{token: s3cret, token_id: s3cret}]
  mattermost_configs: [{webhook_url: 'http://m/s3cret'}]
  incidentio_configs: [{url: 'http://i', alert_source_token: s3cret}]
";
    let config = Config::load(yaml).unwrap();
    assert_eq!(config.receivers[0].integrations(1).unwrap().len(), crate::receivers::KINDS.len());
    assert!(!config.shown.contains("s3cret"), "{}", config.shown);
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(config.shown.starts_with("global:\n  resolve_timeout: 5m\n"), "{}", config.shown);
    // What is shown can be checked again, as amtool does.
    Config::load(&config.shown).unwrap();
}

#[test]
fn a_document_over_the_network_names_no_files() {
    let read = |config: &str, templates: &[(&str, &str)]| {
        let document = Document {
            alertmanager_config: config.to_owned(),
            template_files: templates.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
        };
        Document::read(document.to_yaml().as_bytes(), &Limits::default()).map(drop).map_err(|e| e.to_string())
    };
    let good = "route: {receiver: r}\nreceivers: [{name: r}]\ntemplates: ['*.tmpl']\n";
    assert_eq!(read(good, &[("a.tmpl", "{{ define \"x\" }}y{{ end }}")]), Ok(()));
    for (config, templates, expected) in [
        (String::new(), &[][..], "error validating Alertmanager config: configuration provided is empty"),
        (
            with_receiver(
                "webhook_configs: [{url: 'http://x/', http_config: {basic_auth: {username: u, password_file: /etc/passwd}}}]",
            ),
            &[],
            "setting password_file, bearer_token_file and credentials_file is not allowed",
        ),
        (
            with_receiver("webhook_configs: [{url: 'http://x/', http_config: {proxy_url: 'http://p'}}]"),
            &[],
            "setting proxy_url is not allowed",
        ),
        (with_receiver("webhook_configs: [{url_file: /x}]"), &[], "setting webhook url_file is not allowed"),
        (
            with_receiver("webhook_configs: [{url: 'http://x/', http_config: {tls_config: {ca_file: x}}}]"),
            &[],
            "setting TLS ca_file, cert_file and key_file is not allowed",
        ),
        (good.to_owned(), &[("../a.tmpl", "x")], "invalid template name"),
        (
            good.to_owned(),
            &[("b.tmpl", "{{ define \"x\" }")],
            "error validating Alertmanager config: template",
        ),
    ] {
        let error = read(&config, templates).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let limits = Limits { max_alertmanager_config_bytes: 10, ..Limits::default() };
    let error = Document::read(&[b' '; 20], &limits).unwrap_err().to_string();
    assert_eq!(error, "Alertmanager configuration is too big, limit: 10 bytes");
}

#[test]
fn scalars_are_texts_and_nothing_is_empty_as_in_go() {
    let config = Config::load(
        "route: {receiver: 5, group_by: null, group_wait: 1s}\nreceivers: [{name: 5, slack_configs: null}]\ninhibit_rules: null\n",
    )
    .unwrap();
    assert_eq!(config.route.receiver, "5");
    assert_eq!(config.route.group_by, None);
}
