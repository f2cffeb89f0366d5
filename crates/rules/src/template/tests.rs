use super::*;

struct Samples;

impl TemplateQuery for Samples {
    fn query(&self, text: &str) -> Result<Vec<Element>, String> {
        let sample = |id: &str, value| Element {
            labels: Labels::from_pairs([("id", id), ("__value__", "v")]),
            value: SampleValue::Float(value),
        };
        match text {
            "none" => Ok(Vec::new()),
            "two" => Ok(vec![sample("b", 2.0), sample("a", 1.0)]),
            other => Err(format!("cannot ask {other}")),
        }
    }
}

fn surroundings() -> Rc<Surroundings> {
    let external = Labels::from_pairs([("region", "here")]);
    Rc::new(Surroundings::new(1_500_000, Arc::from("http://ph:9009/base"), &external, Box::new(Samples)))
}

fn expand(text: &str) -> String {
    let element = Element {
        labels: Labels::from_pairs([("__name__", "m"), ("instance", "h1.example.org:9100"), ("job", "api")]),
        value: SampleValue::Float(1.5),
    };
    let parsed = AlertText::parse("A", text).unwrap_or_else(|e| panic!("{text}: {e}"));
    parsed.expand(&AlertData::new(&element, &surroundings()), usize::MAX)
}

/// A label has a few thousand bytes, and one that is put in place of each of another's letters millions.
#[test]
fn texts_that_grow_too_long_become_an_error() {
    let long = "x".repeat(2_000);
    let times = |n: usize| format!("{{{{ reReplaceAll \"x\" \"{}\" \"{}\" }}}}", &long[..n], &long[..n]);
    assert_eq!(expand(&times(250)).len(), 62_500);
    assert!(expand(&times(300)).ends_with("the text is too long>"));
}

#[test]
fn functions_answer_as_those_of_prometheus() {
    for (text, expected) in [
        ("no template }}", "no template }}"),
        ("{{ $value }} {{ .Value }} {{ $labels.job }} [{{ $labels.nope }}]", "1.5 1.5 api []"),
        (
            "{{ $externalLabels.region }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}",
            "here http://ph:9009/base http://ph:9009/base /base",
        ),
        (
            "{{ humanize 1234567.0 }} {{ humanize 0.0015 }} {{ humanize 0.0 }} {{ humanize 1048576 }}",
            "1.235M 1.5m 0 1.049M",
        ),
        ("{{ humanize1024 1048576.0 }} {{ humanize1024 1 }} {{ humanize1024 1048576 }}", "1Mi 1 1Mi"),
        (
            "{{ humanizeDuration 3661 }} {{ humanizeDuration 0.0015 }} {{ humanizeDuration 90061 }}",
            "1h 1m 1s 1.5ms 1d 1h 1m 1s",
        ),
        (
            "{{ humanizeDuration 135.3563 }} {{ humanizeDuration 0 }} {{ humanizeDuration -61 }} {{ humanizeDuration \"5.5\" }}",
            "2m 15s 0s -1m 1s 5.5s",
        ),
        ("{{ humanizePercentage 0.1234 }} {{ humanizePercentage 0.959 }}", "12.34% 95.9%"),
        ("{{ humanizeTimestamp 1435065584.128 }}", "2015-06-23 13:19:44.128 +0000 UTC"),
        ("{{ humanizeTimestamp 1643114203 }}", "2022-01-25 12:36:43 +0000 UTC"),
        (
            "{{ (toTime $value).UTC.Format \"2006-01-02T15:04:05.000\" }} {{ (toTime 0).Month }}",
            "1970-01-01T00:00:01.500 January",
        ),
        ("{{ (toDuration 90).Minutes }} {{ toDuration 61 }}", "1.5 1m1s"),
        ("{{ now }} {{ parseDuration \"2h10m15s\" }} {{ parseDuration \"-1m\" }}", "1500 7815 -60"),
        ("{{ title \"aa bb's\" }} {{ toUpper \"aa\" }} {{ toLower \"BB\" }}", "Aa Bb's AA bb"),
        ("{{ match \"[0-9]+\" \"1234\" }} {{ match \"[0-9]+$\" \"1234a\" }}", "true false"),
        (
            "{{ reReplaceAll \"r.*d\" \"replaced\" \"rpld text\" }} {{ reReplaceAll \"(a)(b)\" \"$2$1\" \"ab\" }}",
            "replaced text ba",
        ),
        (
            "{{ stripPort \"[::1]:6006\" }} {{ stripPort \"127.0.0.1:4004\" }} {{ stripPort \"host\" }}",
            "::1 127.0.0.1 host",
        ),
        (
            "{{ stripDomain $labels.instance }} {{ stripDomain \"10.0.0.1:80\" }} {{ stripDomain \"a.b\" }}",
            "h1:9100 10.0.0.1:80 a",
        ),
        (
            "{{ urlQueryEscape \"a b&c\" }} {{ graphLink \"up == 1\" }} {{ tableLink \"up\" }}",
            "a+b%26c /graph?g0.expr=up+%3D%3D+1&g0.tab=0 /graph?g0.expr=up&g0.tab=1",
        ),
        ("{{ with query \"two\" }}{{ . | first | label \"id\" }}{{ . | first | value }}{{ end }}", "b2"),
        ("{{ range query \"two\" | sortByLabel \"id\" }}{{ .Labels.id }}={{ .Value }} {{ end }}", "a=1 b=2 "),
        (
            "{{ query \"two\" | first | strvalue }}{{ with query \"none\" }}some{{ else }}none{{ end }}",
            "vnone",
        ),
        (
            "{{ define \"y\" }}{{ .arg0 }}-{{ .arg1 }}-{{ .arg5 }}{{ end }}{{ template \"y\" args 1 2 }}",
            "1-2-<no value>",
        ),
        ("{{ define \"x\" }}<{{ . }}>{{ end }}{{ template \"x\" 5 }}", "<5>"),
        (
            "{{ printf \"%.3f %s %q %5d|\" $value \"a\" \"b\" 7 }}{{ print 1 2 \"a\" }}",
            "1.500 a \"b\"     7|1 2a",
        ),
        ("{{ len \"abc\" }} {{ index (args 7) \"arg0\" }}", "3 7"),
        ("{{ if and (gt $value 1.0) (eq $labels.job \"api\") }}high{{ else }}low{{ end }}", "high"),
        (
            "{{ safeHtml \"<b>\" }} {{ html \"<b>\" }} {{ urlquery \"a b\" }} {{ js \"'\" }}",
            "<b> &lt;b&gt; a+b \\'",
        ),
        ("a{{- /* nothing */ -}} b", "ab"),
    ] {
        assert_eq!(expand(text), expected, "{text}");
    }
    assert_eq!(expand("{{ 1e6 }} {{ 3.0 }} {{ true }}"), "1e+06 3 true");
}

#[test]
fn what_goes_wrong_becomes_a_part_of_the_text() {
    for text in [
        "{{ query \"(\" }}",
        "{{ query \"none\" | first }}",
        "{{ humanize \"x\" }}",
        "{{ template \"none\" }}",
        "{{ toTime \"NaN\" }}",
    ] {
        let expanded = expand(text);
        assert!(
            expanded.starts_with("<error expanding template: error executing template __alert_A: "),
            "{expanded}"
        );
    }
    for text in ["{{ $nope }}", "{{ $nope", "{{ tmpl \"x\" . }}", "{{ if true }}", "{{ end }}", "{{ .x | }}"]
    {
        let error = check_template("A", text).map_err(|e| e.to_string());
        assert!(error.as_ref().is_err_and(|e| e.starts_with("template: __alert_A:1: ")), "{text}: {error:?}");
    }
}

#[test]
fn texts_that_look_at_the_time_are_not_remembered() {
    for (text, steady) in
        [("plain", true), ("{{ $value }}", true), ("{{ now }}", false), ("{{ query \"up\" }}", false)]
    {
        assert_eq!(AlertText::parse("A", text).map(|t| t.is_steady()), Ok(steady), "{text}");
    }
}
