//! The newest sample of each series as text, for a Prometheus that federates.

use std::fmt::Write as _;

use pilothouse_model::Labels;
use pilothouse_model::labels::METRIC_NAME;
use pilothouse_model::sample::push_float;

use super::write::{push_series, quoted_name};

const INSTANCE: &str = "instance";

/// Series with the time in milliseconds and value of their newest sample, as Prometheus'
/// `/federate` writes them in the older text format: by name, untyped, `instance=""` where there
/// is none. Series without a name and stale markers have no place in it and are left out.
pub fn federate(series: &[(Labels, i64, f64)]) -> String {
    let stale = pilothouse_model::sample::is_stale;
    let mut named: Vec<_> = series
        .iter()
        .filter_map(|(labels, t_ms, value)| Some((labels.metric_name()?, labels, t_ms, value)))
        .filter(|(_, _, _, value)| !stale(**value))
        .collect();
    named.sort_by(|a, b| a.0.cmp(b.0).then_with(|| a.1.cmp(b.1)));
    let (mut out, mut family) = (String::new(), None);
    for (name, labels, t_ms, value) in named {
        if family != Some(name) {
            let _ = writeln!(out, "# TYPE {} untyped", quoted_name(name));
            family = Some(name);
        }
        let instance = labels.get(INSTANCE).is_none().then_some((INSTANCE, ""));
        let others = labels.iter().filter(|(n, _)| *n != METRIC_NAME);
        push_series(&mut out, name, others.chain(instance));
        out.push(' ');
        push_float(&mut out, *value);
        let _ = writeln!(out, " {t_ms}");
    }
    out
}
