//! `/proc/meminfo`.

use super::{Host, Page};

/// Each line a gauge; what is counted in kB is shown in bytes.
pub(super) fn meminfo(host: &Host, page: &mut Page) {
    let Some(text) = host.read("proc/meminfo") else { return };
    for (key, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        let mut words = rest.split_whitespace();
        let Some(value) = words.next().and_then(|word| word.parse::<f64>().ok()) else { continue };
        let name = key.replace('(', "_").replace(')', "");
        let help = format!("The field {key} of /proc/meminfo.");
        match words.next() {
            Some("kB") => page.gauge(&format!("node_memory_{name}_bytes"), &help, Some(value * 1024.0)),
            _ => page.gauge(&format!("node_memory_{name}"), &help, Some(value)),
        }
    }
}
