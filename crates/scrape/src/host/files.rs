//! Figures that stand in a file of their own.

use super::{Host, Page, numbers};

pub(super) fn figures(host: &Host, page: &mut Page) {
    if let Some(text) = host.read("proc/sys/fs/file-nr") {
        let values: Vec<Option<f64>> = numbers(&text).collect();
        let value = |at: usize| values.get(at).copied().flatten();
        page.gauge("node_filefd_allocated", "File descriptors in use.", value(0));
        page.gauge("node_filefd_maximum", "File descriptors that may be in use.", value(2));
    }
    for (name, help, path) in [
        ("node_entropy_available_bits", "Entropy at hand.", "proc/sys/kernel/random/entropy_avail"),
        ("node_entropy_pool_size_bits", "Entropy that can be held.", "proc/sys/kernel/random/poolsize"),
        ("node_nf_conntrack_entries", "Connections tracked.", "proc/sys/net/netfilter/nf_conntrack_count"),
        (
            "node_nf_conntrack_entries_limit",
            "Connections that can be tracked.",
            "proc/sys/net/netfilter/nf_conntrack_max",
        ),
    ] {
        page.gauge(name, help, host.number(path));
    }
}
