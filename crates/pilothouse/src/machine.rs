//! What the kernel says of memory: how much there is, and how much this process holds.

use std::fs;
use std::path::{Path, PathBuf};

/// Memory that the process may use: the machine's, or what its control group allows if that is
/// less. `None` where nobody tells.
pub(crate) fn memory_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo.as_deref().and_then(|text| kib_of(text, "MemTotal:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_limit(Path::new("/sys/fs/cgroup"), &groups);
    machine.into_iter().chain(group).min()
}

/// Memory of this process that is in RAM; 0 where nobody tells.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").ok();
    status.as_deref().and_then(|text| kib_of(text, "VmRSS:")).unwrap_or(0)
}

/// The value of a line `Name:   123 kB`, in bytes.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the process' control group and those above it, of either version. In a
/// container the group's own path may not be visible; its root then is the group.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if number == "0" && controllers.is_empty() {
            limits.extend(limits_upwards(root, path, "memory.max"));
        } else if controllers.split(',').any(|c| c == "memory") {
            limits.extend(limits_upwards(&root.join("memory"), path, "memory.limit_in_bytes"));
        }
    }
    limits.into_iter().min()
}

fn limits_upwards(root: &Path, path: &str, file: &str) -> Vec<u64> {
    let mut limits = Vec::new();
    let mut at: PathBuf = root.join(path.trim_start_matches('/'));
    while at.starts_with(root) {
        let text = fs::read_to_string(at.join(file)).unwrap_or_default();
        // "max", or a number near 2^63, is no limit.
        limits.extend(text.trim().parse::<u64>().ok().filter(|bytes| *bytes < 1 << 60));
        if !at.pop() {
            break;
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_kilobytes_are_read() {
        let text = "MemTotal:       16384 kB\nMemFree:  1 kB\nOdd: 5\n";
        assert_eq!(kib_of(text, "MemTotal:"), Some(16 << 20));
        assert_eq!((kib_of(text, "Odd:"), kib_of(text, "Gone:")), (None, None));
        assert!(resident_bytes() > 0 && memory_bytes().is_some());
    }

    #[test]
    fn the_least_limit_of_a_group_and_its_parents_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("memory.max", "max\n");
        put("a/memory.max", "536870912\n");
        put("a/b/memory.max", "max\n");
        put("memory/x/memory.limit_in_bytes", "1048576\n");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        for (groups, limit) in [
            ("0::/a/b\n", Some(512 << 20)),
            ("0::/\n", None),
            // Only the root is visible.
            ("0::/elsewhere/deep\n", None),
            ("12:cpu:/y\n5:hugetlb,memory:/x\n", Some(1 << 20)),
            ("5:memory:/gone\n", None),
            ("nonsense", None),
        ] {
            assert_eq!(group_limit(root.path(), groups), limit, "{groups}");
        }
    }
}
