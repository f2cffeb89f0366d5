//! Names of OpenTelemetry as Prometheus' default translation (`UnderscoreEscapingWithSuffixes`)
//! writes them: the crate `otlptranslator` with the options that Prometheus sets.

use super::words::{Kind, MetricHead};

const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The name of a metric's family, or why it has none.
pub(super) fn metric_name(metric: &MetricHead) -> Result<String, String> {
    let mut tokens: Vec<&str> = metric.name.split(|c| !is_name_char(c)).filter(|t| !t.is_empty()).collect();
    let (main, per) = unit_words(&metric.unit);
    let main = if tokens.contains(&main.as_str()) { "" } else { main.as_str() };
    let per = per.trim_end_matches('_');
    let per = if per == "per" || tokens.contains(&per) { "" } else { per };
    let main = if per.is_empty() { main } else { main.trim_end_matches('_') };
    tokens.extend([main, per].into_iter().filter(|t| !t.is_empty()));
    let last = match metric.kind {
        Kind::Sum { monotonic: true, .. } => Some("total"),
        Kind::Gauge if metric.unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        tokens.retain(|t| *t != last);
        tokens.push(last);
    }
    let mut name = tokens.join("_");
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    if name.is_empty() {
        return Err(format!("normalization for metric {:?} resulted in empty name", metric.name));
    }
    if name != metric.name && name.chars().all(|c| c == '_') {
        return Err(format!("normalization for metric {:?} resulted in invalid name {name:?}", metric.name));
    }
    Ok(name)
}

/// The unit as metadata says it.
pub(super) fn unit_name(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    let joined = match (main.is_empty(), per.is_empty()) {
        (false, false) => format!("{main}_{per}"),
        (false, true) => main,
        _ => per,
    };
    let joined = joined.strip_prefix('_').unwrap_or(&joined);
    joined.strip_suffix('_').unwrap_or(joined).to_owned()
}

/// A unit and what it is per (`per_second`), as words that may stand in a name. Units in braces
/// are remarks and leave nothing.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let named = |text: &str, table: &[(&'static str, &'static str)]| {
        let text = text.trim();
        if text.contains(['{', '}']) {
            return String::new();
        }
        let known = table.iter().find(|(short, _)| *short == text).map(|(_, long)| (*long).to_owned());
        known.unwrap_or_else(|| text.to_owned())
    };
    let per = named(per, &PER_UNITS);
    let per = if per.is_empty() { per } else { format!("per_{per}") };
    (clean_unit(&named(main, &UNITS)), clean_unit(&per))
}

/// Other characters become underscores, several of them one, and none stands in front.
fn clean_unit(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    for c in unit.chars() {
        if is_name_char(c) {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out
}

/// The name of a label, or why there is none.
pub(super) fn label_name(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("label name is empty".to_owned());
    }
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "key_");
    } else if out.starts_with('_') && !out.starts_with("__") {
        out.insert_str(0, "key");
    }
    if out.chars().all(|c| c == '_') {
        return Err(format!("normalization for label name {name:?} resulted in invalid name {out:?}"));
    }
    Ok(out)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_follow_prometheus() {
        let counter = Kind::Sum { temporality: 2, monotonic: true };
        let up_down = Kind::Sum { temporality: 2, monotonic: false };
        for (name, unit, kind, expected) in [
            ("http.server.duration", "s", Kind::Histogram { temporality: 2 }, "http_server_duration_seconds"),
            ("http.server.duration.seconds", "s", Kind::Gauge, "http_server_duration_seconds"),
            ("requests", "", counter, "requests_total"),
            ("requests.total.count", "", counter, "requests_count_total"),
            ("requests", "{request}", counter, "requests_total"),
            ("system.io", "By", counter, "system_io_bytes_total"),
            ("system.network.io", "By/s", counter, "system_network_io_bytes_per_second_total"),
            ("broken.metric.rate", "m/s", Kind::Gauge, "broken_metric_rate_meters_per_second"),
            ("cpu.utilization", "1", Kind::Gauge, "cpu_utilization_ratio"),
            ("cpu.ratio.used", "1", Kind::Gauge, "cpu_used_ratio"),
            ("cpu.utilization", "1", up_down, "cpu_utilization"),
            ("2xx responses", "", Kind::Gauge, "_2xx_responses"),
            ("__a__b__", "", Kind::Gauge, "a_b"),
            ("a:b", "°C", Kind::Gauge, "a:b_C"),
            ("speed", "km/h", Kind::Gauge, "speed_km_per_hour"),
        ] {
            let head =
                MetricHead { name: name.to_owned(), description: String::new(), unit: unit.to_owned(), kind };
            assert_eq!(metric_name(&head).as_deref(), Ok(expected), "{name} {unit}");
        }
    }

    #[test]
    fn names_of_nothing_are_refused() {
        let head = |name: &str| MetricHead {
            name: name.to_owned(),
            description: String::new(),
            unit: String::new(),
            kind: Kind::Gauge,
        };
        assert!(metric_name(&head("")).is_err());
        assert!(metric_name(&head("日本")).is_err());
        assert!(label_name("").is_err());
        assert!(label_name("__").is_err());
    }

    #[test]
    fn label_names_and_units_follow_prometheus() {
        for (name, expected) in [
            ("k8s.pod.name", "k8s_pod_name"),
            ("1st", "key_1st"),
            ("_private", "key_private"),
            ("__reserved__", "__reserved__"),
            ("a..b", "a__b"),
            ("größe", "gr__e"),
        ] {
            assert_eq!(label_name(name).as_deref(), Ok(expected));
        }
        for (unit, expected) in [
            ("s", "seconds"),
            ("By/s", "bytes_per_second"),
            ("{x}", ""),
            ("1", ""),
            ("/min", "per_min"),
            ("%", "percent"),
        ] {
            assert_eq!(unit_name(unit), expected);
        }
    }
}
