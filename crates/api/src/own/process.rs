//! What the kernel knows of this process, under the names that Prometheus' clients use.
//!
//! Read from `/proc`; where that is missing, the families are left out.

use std::fs;

use crate::telemetry::Family;

/// Clock ticks a second and bytes a page, as every Linux has them on the platforms we build for.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;

pub(crate) fn families(started_ms: i64) -> Vec<Family> {
    let mut families = vec![
        Family::gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")
            .value(started_ms as f64 / 1000.0),
    ];
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        families.extend([
            Family::counter("process_cpu_seconds_total", "Processor time, user and system.")
                .value(stat.cpu_s),
            Family::gauge("process_resident_memory_bytes", "Memory in use.").value(stat.resident_bytes),
            Family::gauge("process_virtual_memory_bytes", "Address space in use.").value(stat.virtual_bytes),
            Family::gauge("process_threads", "Threads.").value(stat.threads),
        ]);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        families.push(Family::gauge("process_open_fds", "Open file descriptors.").value(open.count() as f64));
    }
    families
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_s: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    /// The fields behind the command, which may itself hold blanks and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok());
        Some(Self {
            cpu_s: (field(11)? + field(12)?) / TICKS_PER_SECOND,
            threads: field(17)?,
            virtual_bytes: field(20)?,
            resident_bytes: field(21)? * PAGE_BYTES,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_command() {
        let text =
            "7 (a (b) c) S 1 7 7 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 5 0 100 8192 3 18446744073709551615 1";
        let stat = Stat { cpu_s: 2.0, threads: 5.0, virtual_bytes: 8192.0, resident_bytes: 12288.0 };
        assert_eq!(Stat::parse(text), Some(stat));
    }
}
