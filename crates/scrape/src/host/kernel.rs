//! Processors, processes, load, pressure, virtual memory, and what kernel it is.

use std::time::{SystemTime, UNIX_EPOCH};

use pilothouse_model::write::MetricType;

use super::{Host, Page, Sample, numbers};

/// Clock ticks a second, as every Linux counts them on the platforms we build for.
const TICKS_PER_SECOND: f64 = 100.0;
/// In the order of `/proc/stat`; guests follow.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];

pub(super) fn stat(host: &Host, page: &mut Page) {
    let Some(text) = host.read("proc/stat") else { return };
    let (mut seconds, mut guests) = (Vec::new(), Vec::new());
    for line in text.lines().filter_map(|line| line.strip_prefix("cpu")) {
        let Some((cpu, ticks)) = line.split_once(' ').filter(|(cpu, _)| !cpu.is_empty()) else { continue };
        let ticks: Vec<f64> = numbers(ticks).map_while(|n| n).collect();
        let sample =
            |mode: &'static str, ticks: f64| (vec![("cpu", cpu), ("mode", mode)], ticks / TICKS_PER_SECOND);
        seconds.extend(MODES.into_iter().zip(ticks.iter().copied()).map(|(mode, t)| sample(mode, t)));
        let guest_ticks = ticks.iter().copied().skip(MODES.len());
        guests.extend(GUEST_MODES.into_iter().zip(guest_ticks).map(|(mode, t)| sample(mode, t)));
    }
    let counter = MetricType::Counter;
    page.family("node_cpu_seconds_total", counter, "Seconds the processors spent in each mode.", &seconds);
    page.family(
        "node_cpu_guest_seconds_total",
        counter,
        "Seconds spent for guests, of virtual machines.",
        &guests,
    );
    let word = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.next().and_then(|rest| numbers(rest).next().flatten())
    };
    page.counter("node_intr_total", "Interrupts serviced.", word("intr"));
    page.counter("node_context_switches_total", "Context switches.", word("ctxt"));
    page.counter("node_forks_total", "Processes started.", word("processes"));
    page.gauge("node_boot_time_seconds", "When the host started, in seconds since 1970.", word("btime"));
    page.gauge("node_procs_running", "Processes that can run.", word("procs_running"));
    page.gauge("node_procs_blocked", "Processes that wait for input or output.", word("procs_blocked"));
}

pub(super) fn load(host: &Host, page: &mut Page) {
    let Some(text) = host.read("proc/loadavg") else { return };
    let names = [
        ("node_load1", "Load average over 1 minute."),
        ("node_load5", "Load average over 5 minutes."),
        ("node_load15", "Load average over 15 minutes."),
    ];
    for ((name, help), value) in names.into_iter().zip(numbers(&text)) {
        page.gauge(name, help, value);
    }
}

/// Microseconds in which some, or all, had to wait for a resource.
pub(super) fn pressure(host: &Host, page: &mut Page) {
    for (resource, who, name, help) in [
        (
            "cpu",
            "some",
            "node_pressure_cpu_waiting_seconds_total",
            "Seconds in which something waited for a processor.",
        ),
        (
            "io",
            "some",
            "node_pressure_io_waiting_seconds_total",
            "Seconds in which something waited for a disk.",
        ),
        (
            "io",
            "full",
            "node_pressure_io_stalled_seconds_total",
            "Seconds in which nothing got on for want of a disk.",
        ),
        (
            "memory",
            "some",
            "node_pressure_memory_waiting_seconds_total",
            "Seconds in which something waited for memory.",
        ),
        (
            "memory",
            "full",
            "node_pressure_memory_stalled_seconds_total",
            "Seconds in which nothing got on for want of memory.",
        ),
    ] {
        let Some(text) = host.read(&format!("proc/pressure/{resource}")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix(who));
        let total =
            line.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("total=")));
        let seconds = total.and_then(|us| us.parse::<f64>().ok()).map(|us| us / 1e6);
        page.counter(name, help, seconds);
    }
}

/// The few fields that node_exporter shows: faults, paging, swapping, kills.
pub(super) fn vmstat(host: &Host, page: &mut Page) {
    let Some(text) = host.read("proc/vmstat") else { return };
    for (field, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        let fault = field.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"));
        if fault || ["oom_kill", "pgpg", "pswp"].iter().any(|start| field.starts_with(start)) {
            let help = format!("The field {field} of /proc/vmstat.");
            page.untyped(&format!("node_vmstat_{field}"), &help, value.trim().parse().ok());
        }
    }
}

pub(super) fn uname(host: &Host, page: &mut Page) {
    let read = |name: &str| host.read(&format!("proc/sys/kernel/{name}")).map(|text| text.trim().to_owned());
    let Some(sysname) = read("ostype") else { return };
    let machine = read("arch").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let others =
        ["domainname", "osrelease", "version", "hostname"].map(|name| read(name).unwrap_or_default());
    let [domain, release, version, host_name] = &others;
    let labels = vec![
        ("domainname", domain.as_str()),
        ("machine", &machine),
        ("nodename", host_name),
        ("release", release),
        ("sysname", &sysname),
        ("version", version),
    ];
    let sample: [Sample<'_>; 1] = [(labels, 1.0)];
    page.family("node_uname_info", MetricType::Gauge, "The kernel and the host's name; always 1.", &sample);
}

pub(super) fn time(_: &Host, page: &mut Page) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
    page.gauge("node_time_seconds", "The host's clock, in seconds since 1970.", now);
}
