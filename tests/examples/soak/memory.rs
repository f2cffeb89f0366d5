//! Ceilings, and what is below them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A control group with a ceiling, of either version; removed when dropped.
pub(crate) struct Group(PathBuf);

impl Group {
    /// Below the group that the environment names, if it names one.
    pub(crate) fn make(mib: u64) -> Option<Self> {
        let parent = PathBuf::from(std::env::var_os("PILOTHOUSE_SOAK_CGROUP")?);
        let group = Self(parent.join(format!("pilothouse-soak-{}", std::process::id())));
        fs::create_dir(&group.0).unwrap();
        let ceiling = ["memory.max", "memory.limit_in_bytes"].map(|name| group.0.join(name));
        let ceiling = ceiling.iter().find(|path| path.is_file()).expect("a control group that limits memory");
        fs::write(ceiling, (mib << 20).to_string()).unwrap();
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        Some(group)
    }

    /// Where a process writes its id to be in the group.
    pub(crate) fn door(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// How often the kernel has killed for memory.
    pub(crate) fn kills(&self) -> u64 {
        let texts = ["memory.events", "memory.oom_control"].map(|name| fs::read_to_string(self.0.join(name)));
        let lines = texts.iter().flatten().flat_map(|text| text.lines());
        lines.filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok()).sum()
    }

    fn mib(&self, names: [&str; 2]) -> u64 {
        let texts = names.iter().filter_map(|name| fs::read_to_string(self.0.join(name)).ok());
        texts.filter_map(|text| text.trim().parse::<u64>().ok()).next().unwrap_or(0) >> 20
    }

    /// What is charged to the group, the pages of files that can be dropped included.
    fn charged_mib(&self) -> u64 {
        self.mib(["memory.current", "memory.usage_in_bytes"])
    }

    /// What is charged and belongs to no file.
    fn anonymous_mib(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.stat")).unwrap_or_default();
        let of =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        of("anon ").or_else(|| of("total_rss ")).unwrap_or(0) >> 20
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The largest sizes seen.
#[derive(Default, Clone, Copy)]
pub(crate) struct Peak {
    pub(crate) resident_mib: u64,
    anonymous_mib: u64,
    charged_mib: u64,
}

impl Peak {
    pub(crate) fn look(&mut self, process: u32, group: Option<&Group>) {
        let path = PathBuf::from(format!("/proc/{process}/status"));
        self.resident_mib = self.resident_mib.max(resident_mib(&path));
        if let Some(group) = group {
            self.anonymous_mib = self.anonymous_mib.max(group.anonymous_mib());
            self.charged_mib = self.charged_mib.max(group.charged_mib());
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"rss_mib": self.resident_mib, "anonymous_mib": self.anonymous_mib, "charged_mib": self.charged_mib})
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "largest sizes, MiB: VmRSS {}; of the group {} anonymous, {} with pages of files",
            self.resident_mib, self.anonymous_mib, self.charged_mib
        )
    }
}

fn resident_mib(status: &Path) -> u64 {
    let status = fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) >> 10
}
