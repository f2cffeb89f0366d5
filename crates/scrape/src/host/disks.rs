//! Disks and the file systems on them.

use std::collections::HashSet;

use pilothouse_model::write::MetricType;

use super::{Host, Page, Sample};

const SECTOR_BYTES: f64 = 512.0;

/// A column of `/proc/diskstats`: name, kind, help, factor.
type Column = (&'static str, MetricType, &'static str, f64);

/// In the order in which they stand behind the name of the device.
const COLUMNS: [Column; 17] = [
    ("node_disk_reads_completed_total", MetricType::Counter, "Reads done.", 1.0),
    ("node_disk_reads_merged_total", MetricType::Counter, "Reads merged.", 1.0),
    ("node_disk_read_bytes_total", MetricType::Counter, "Bytes read.", SECTOR_BYTES),
    ("node_disk_read_time_seconds_total", MetricType::Counter, "Seconds spent by all reads.", 0.001),
    ("node_disk_writes_completed_total", MetricType::Counter, "Writes done.", 1.0),
    ("node_disk_writes_merged_total", MetricType::Counter, "Writes merged.", 1.0),
    ("node_disk_written_bytes_total", MetricType::Counter, "Bytes written.", SECTOR_BYTES),
    ("node_disk_write_time_seconds_total", MetricType::Counter, "Seconds spent by all writes.", 0.001),
    ("node_disk_io_now", MetricType::Gauge, "Reads and writes under way.", 1.0),
    (
        "node_disk_io_time_seconds_total",
        MetricType::Counter,
        "Seconds in which anything was under way.",
        0.001,
    ),
    (
        "node_disk_io_time_weighted_seconds_total",
        MetricType::Counter,
        "Seconds in which anything was under way, each times how much was.",
        0.001,
    ),
    ("node_disk_discards_completed_total", MetricType::Counter, "Discards done.", 1.0),
    ("node_disk_discards_merged_total", MetricType::Counter, "Discards merged.", 1.0),
    ("node_disk_discarded_sectors_total", MetricType::Counter, "Sectors discarded.", 1.0),
    ("node_disk_discard_time_seconds_total", MetricType::Counter, "Seconds spent by all discards.", 0.001),
    ("node_disk_flush_requests_total", MetricType::Counter, "Flushes done.", 1.0),
    (
        "node_disk_flush_requests_time_seconds_total",
        MetricType::Counter,
        "Seconds spent by all flushes.",
        0.001,
    ),
];

pub(super) fn diskstats(host: &Host, page: &mut Page) {
    let Some(text) = host.read("proc/diskstats") else { return };
    let mut infos: Vec<Sample<'_>> = Vec::new();
    let mut columns: Vec<Vec<Sample<'_>>> = vec![Vec::new(); COLUMNS.len()];
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(major), Some(minor), Some(device)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if is_no_disk(device) {
            continue;
        }
        infos.push((vec![("device", device), ("major", major), ("minor", minor)], 1.0));
        let values = words.map(|word| word.parse::<f64>().ok());
        for ((samples, column), value) in columns.iter_mut().zip(&COLUMNS).zip(values) {
            samples.extend(value.map(|value| (vec![("device", device)], value * column.3)));
        }
    }
    page.family("node_disk_info", MetricType::Gauge, "The disk; always 1.", &infos);
    for ((name, kind, help, _), samples) in COLUMNS.iter().zip(&columns) {
        page.family(name, *kind, help, samples);
    }
}

/// Memory disks, loops, floppies, and partitions: the disks they lie on are shown.
fn is_no_disk(device: &str) -> bool {
    let base = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if base.len() == device.len() {
        return false;
    }
    let letters = |prefix: &str| base.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1);
    let is_partition_of_nvme = base.starts_with("nvme") && base.ends_with('p');
    matches!(base, "ram" | "loop" | "fd")
        || ["hd", "sd", "vd", "xvd"].iter().any(|prefix| letters(prefix))
        || is_partition_of_nvme
}

/// File systems that hold nothing of their own, and such as live elsewhere.
const WITHOUT: [&str; 36] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "erofs",
    "sysfs",
    "tracefs",
    // Over the network.
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "ceph",
    "glusterfs",
    "afs",
    "ncpfs",
    "lustre",
    "virtiofs",
];

struct Mount {
    device: String,
    point: String,
    kind: String,
    read_only: bool,
}

impl Mount {
    fn labels(&self) -> Vec<(&str, &str)> {
        vec![("device", &self.device), ("fstype", &self.kind), ("mountpoint", &self.point)]
    }
}

pub(super) fn filesystems(host: &Host, page: &mut Page) {
    // The first process sees what is mounted, whatever this one's view is.
    let Some(text) = host.read("proc/1/mounts").or_else(|| host.read("proc/self/mounts")) else { return };
    let mut seen = HashSet::new();
    let mounts: Vec<Mount> = text
        .lines()
        .filter_map(mount)
        .filter(|m| seen.insert((m.device.clone(), m.point.clone(), m.kind.clone())))
        .collect();
    let stats: Vec<_> =
        mounts.iter().map(|m| rustix::fs::statfs(host.path(m.point.trim_start_matches('/')))).collect();
    let gauge = MetricType::Gauge;
    let each = |value: &dyn Fn(&rustix::fs::StatFs) -> f64| -> Vec<Sample<'_>> {
        mounts
            .iter()
            .zip(&stats)
            .filter_map(|(m, s)| s.as_ref().ok().map(|s| (m.labels(), value(s))))
            .collect()
    };
    let size = |s: &rustix::fs::StatFs| s.f_bsize as f64;
    for (name, help, samples) in [
        (
            "node_filesystem_avail_bytes",
            "Bytes that others than root may still use.",
            each(&|s| s.f_bavail as f64 * size(s)),
        ),
        ("node_filesystem_files", "Files that it can hold.", each(&|s| s.f_files as f64)),
        ("node_filesystem_files_free", "Files that it can still hold.", each(&|s| s.f_ffree as f64)),
        ("node_filesystem_free_bytes", "Bytes that are free.", each(&|s| s.f_bfree as f64 * size(s))),
        ("node_filesystem_size_bytes", "Bytes that it can hold.", each(&|s| s.f_blocks as f64 * size(s))),
    ] {
        page.family(name, gauge, help, &samples);
    }
    let flag = |is: bool| f64::from(u8::from(is));
    let errors: Vec<Sample<'_>> =
        mounts.iter().zip(&stats).map(|(m, s)| (m.labels(), flag(s.is_err()))).collect();
    page.family("node_filesystem_device_error", gauge, "Whether it could not be asked.", &errors);
    let read_only: Vec<Sample<'_>> = mounts
        .iter()
        .zip(&stats)
        .filter(|(_, s)| s.is_ok())
        .map(|(m, _)| (m.labels(), flag(m.read_only)))
        .collect();
    page.family("node_filesystem_readonly", gauge, "Whether it is mounted read-only.", &read_only);
}

/// A line of a list of mounts; `None` for one that is not shown.
fn mount(line: &str) -> Option<Mount> {
    let mut words = line.split_whitespace();
    let (device, point, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let point = point.replace("\\040", " ").replace("\\011", "\t");
    if WITHOUT.contains(&kind) || kind.starts_with("fuse.") || is_of_the_system(&point) {
        return None;
    }
    Some(Mount {
        device: device.to_owned(),
        kind: kind.to_owned(),
        read_only: options.split(',').any(|option| option == "ro"),
        point,
    })
}

/// Where the kernel and containers mount what nobody put there.
fn is_of_the_system(point: &str) -> bool {
    let below = |directory: &str| {
        point.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let inside = |directory: &str| point.strip_prefix(directory).is_some_and(|rest| rest.len() > 1);
    ["/dev", "/proc", "/run", "/sys"].iter().any(|d| below(d))
        || ["/var/lib/docker", "/var/lib/containers/storage"].iter().any(|d| inside(d))
}

#[cfg(test)]
pub(super) fn is_shown(line: &str) -> bool {
    mount(line).is_some()
}
