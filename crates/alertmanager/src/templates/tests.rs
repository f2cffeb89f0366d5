//! Templates as tables: what they print of one notification.

use std::collections::BTreeMap;

use pilothouse_model::Labels;

use super::*;

fn alert(name: &str, instance: &str, resolved: bool) -> AlertData {
    AlertData {
        resolved,
        labels: Labels::from_pairs([("alertname", name), ("instance", instance), ("severity", "page")]),
        annotations: BTreeMap::from([("summary".to_owned(), format!("{instance} <is> down"))]),
        starts_at_ms: 1_700_000_000_123,
        ends_at_ms: resolved.then_some(1_700_000_060_000),
        generator_url: "http://g/?a=1&b=2".to_owned(),
        fingerprint: 0xab,
    }
}

fn data() -> Value {
    let map =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Data {
        receiver: "team".to_owned(),
        status: "firing",
        alerts: vec![alert("Down", "a:1", false), alert("Down", "b:1", true)],
        notification_reason: "first notification",
        group_labels: map(&[("alertname", "Down")]),
        common_labels: map(&[("alertname", "Down"), ("severity", "page"), ("cluster", "c1")]),
        common_annotations: map(&[]),
        route_labels: map(&[("owner", "me")]),
        external_url: "http://am".to_owned(),
    }
    .to_value()
}

fn check(cases: &[(&str, &str)]) {
    let templates = Templates::new([]).unwrap();
    for (template, expected) in cases {
        let shown = templates.text(template, &data()).unwrap_or_else(|e| format!("ERROR {e}"));
        assert_eq!(shown, *expected, "{template}");
    }
}

/// Each of them would take more memory than any machine has.
#[test]
fn no_template_makes_a_text_without_end() {
    let templates = Templates::new([]).unwrap();
    let doubled = r#"{{$x = printf "%s%s" $x $x}}"#;
    for text in [
        doubled.repeat(60),
        format!("{}{{{{$y := html (html (html (html $x)))}}}}", doubled.repeat(18)),
        format!("{}{{{{$y := reReplaceAll \"\" $x $x}}}}", doubled.repeat(18)),
        format!("{}{}", doubled.repeat(19), "{{$y = toUpper $x}}".repeat(100)),
    ] {
        let text = format!("{{{{$x := \"<<<<<<<<\"}}}}{{{{$y := \"\"}}}}{text}{{{{len $y}}}}");
        assert!(templates.text(&text, &data()).is_err(), "{text:.120}");
        assert!(templates.html(&text, &data()).is_err(), "{text:.120}");
    }
}

#[test]
fn data_is_walked_as_in_alertmanager() {
    check(&[
        ("{{ len .Alerts.Firing }}/{{ .Alerts.Resolved | len }}/{{ .Alerts | len }}", "1/1/2"),
        ("{{ range .Alerts }}{{ .Labels.instance }};{{ end }}", "a:1;b:1;"),
        ("{{ (index .Alerts 0).Labels.instance }} {{ (index .Alerts.Resolved 0).Status }}", "a:1 resolved"),
        ("{{ .CommonLabels.SortedPairs.Values | join \" \" }}", "Down c1 page"),
        ("{{ .CommonLabels.Names.Join \",\" }}", "alertname,cluster,severity"),
        ("{{ (.CommonLabels.Remove (stringSlice \"cluster\")).Values | join \" \" }}", "Down page"),
        ("{{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join \"+\" }}{{ end }}", "c1+page"),
        (
            "{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}",
            "alertname=Down cluster=c1 severity=page ",
        ),
        (
            "{{ range $k, $v := .CommonLabels }}{{ $k }}:{{ $v }} {{ end }}",
            "alertname:Down cluster:c1 severity:page ",
        ),
        ("[{{ .CommonLabels.nope }}] [{{ index .CommonLabels \"nope\" }}]", "[] []"),
        ("{{ .CommonLabels }}", "alertname=Down, cluster=c1, severity=page"),
        (
            "{{ $x := index .Alerts 0 }}{{ $x.Fingerprint }} {{ $x.Annotations.summary }}",
            "00000000000000ab a:1 <is> down",
        ),
        ("{{ $.Receiver }} {{ .NotificationReason }} {{ .RouteLabels.owner }}", "team first notification me"),
        ("{{ if gt (len .CommonLabels) (len .GroupLabels) }}more{{ end }}", "more"),
        ("{{ .CommonAnnotations.SortedPairs.Values | join \" \" }}|", "|"),
        ("{{ .Nope }}", "ERROR template: execution error: can't evaluate field Nope in type data"),
    ]);
}

#[test]
fn functions_are_those_of_alertmanager() {
    check(&[
        ("{{ .Status | toUpper }} {{ \"AB\" | toLower }} {{ \"aB cd-ef\" | title }}", "FIRING ab Ab Cd-Ef"),
        ("{{ \" x \" | trimSpace }}{{ match \"^a.\" \"abc\" }}{{ match \"^b\" \"abc\" }}", "xtruefalse"),
        ("{{ reReplaceAll \"a(.)\" \"<$1>\" \"abac\" }}", "<b><c>"),
        ("{{ \"<b>\" | safeHtml }}{{ \"a b\" | urlquery }}{{ urlUnescape \"a+b%3Dc&d\" }}", "<b>a+ba b=c&d"),
        (
            "{{ (index .Alerts 0).StartsAt | date \"2006-01-02 15:04:05.000 MST\" }}",
            "2023-11-14 22:13:20.123 UTC",
        ),
        (
            "{{ (index .Alerts 0).StartsAt | tz \"Europe/Paris\" | date \"15:04 MST -07:00\" }}",
            "23:13 CET +01:00",
        ),
        ("{{ (index .Alerts 0).StartsAt }}", "2023-11-14 22:13:20.123 +0000 UTC"),
        (
            "{{ (index .Alerts 0).StartsAt.Format \"2006\" }} {{ (index .Alerts 0).StartsAt.Unix }}",
            "2023 1700000000",
        ),
        ("{{ (index .Alerts 0).EndsAt.IsZero }} {{ (index .Alerts 1).EndsAt.IsZero }}", "true false"),
        ("{{ (index .Alerts 1).EndsAt.Sub (index .Alerts 1).StartsAt | humanizeDuration }}", "59.88s"),
        (
            "{{ humanizeDuration 93784 }} {{ humanizeDuration \"0.0015\" }} {{ humanizeDuration 0 }}",
            "1d 2h 3m 4s 1.5ms 0s",
        ),
        ("{{ toDate \"2006-01-02\" \"2024-02-03\" | date \"02.01.\" }}", "03.02."),
        (
            "{{ .GroupLabels | toJson }} {{ \"<&>\" | toJson }}",
            "{\"alertname\":\"Down\"} \"\\u003c\\u0026\\u003e\"",
        ),
        (
            "{{ (index .Alerts 0).Labels | toJson }}",
            "{\"alertname\":\"Down\",\"instance\":\"a:1\",\"severity\":\"page\"}",
        ),
        ("{{ \"a?b>\" | base64encode }} {{ \"YT9iPg==\" | base64decode }}", "YT9iPg== a?b>"),
        (
            "{{ $d := dict \"a\" 1 \"b\" (list 1 2) }}{{ $d.a }} {{ len $d.b }} {{ append $d.b 3 }}",
            "1 2 [1 2 3]",
        ),
        ("{{ print 1 2 \"x\" 3.50 }} {{ printf \"%s-%d\" .Status 3 }}", "1 2x3.5 firing-3"),
        ("{{ nosuch 1 }}", "ERROR template: :1: function \"nosuch\" not defined"),
    ]);
}

#[test]
fn default_texts_are_those_people_know() {
    let list = "Labels:\n - alertname = Down\n - instance = a:1\n - severity = page\nAnnotations:\n - summary = a:1 <is> down\nSource: http://g/?a=1&b=2\n";
    check(&[
        ("{{ template \"__subject\" . }}", "[FIRING:1] Down (c1 page)"),
        ("{{ template \"slack.default.title\" . }}", "[FIRING:1] Down (c1 page)"),
        ("{{ template \"slack.default.color\" . }}", "danger"),
        (
            "{{ template \"slack.default.fallback\" . }}",
            "[FIRING:1] Down (c1 page) | http://am/#/alerts?receiver=team",
        ),
        ("{{ template \"__text_alert_list\" .Alerts.Firing }}", list),
        ("{{ template \"pagerduty.default.client\" . }}", "Alertmanager"),
        ("{{ template \"jira.default.priority\" . }}|{{ template \"__description\" . }}", "|"),
    ]);
    let templates = Templates::new([]).unwrap();
    let message = templates.text("{{ template \"opsgenie.default.description\" . }}", &data()).unwrap();
    assert!(message.starts_with(&format!("\nAlerts Firing:\n{list}")), "{message:?}");
    assert!(message.contains("\nAlerts Resolved:\nLabels:\n"), "{message:?}");
}

#[test]
fn mail_is_escaped_for_where_values_stand() {
    let templates = Templates::new([]).unwrap();
    let mail = templates.html("{{ template \"email.default.html\" . }}", &data()).unwrap();
    for part in [
        "2 alerts for",
        "alertname=Down",
        "a:1 &lt;is&gt; down",
        "http://g/?a=1&amp;b=2",
        "[1] Firing",
        "[1] Resolved",
    ] {
        assert!(mail.contains(part), "{part}\n{mail}");
    }
    assert_eq!(templates.html("{{ \"<b>\" | safeHtml }}{{ \"<b>\" }}", &data()).unwrap(), "<b>&lt;b&gt;");
}

#[test]
fn files_add_definitions_and_replace_them() {
    let files =
        [("t.tmpl", "{{ define \"__subject\" }}mine{{ end }}{{ define \"own\" }}{{ .Status }}{{ end }}")];
    let templates = Templates::new(files).unwrap();
    assert_eq!(
        templates.text("{{ template \"slack.default.title\" . }} {{ template \"own\" . }}", &data()).unwrap(),
        "mine firing"
    );
    for bad in ["{{ define \"x\" }", "{{ define \"x\" }}", "{{ if }}{{ end }}", "{{ nosuch }}", "{{ .x"] {
        assert!(Templates::new([("b.tmpl", bad)]).is_err(), "{bad}");
    }
}
