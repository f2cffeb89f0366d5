//! The host's own metrics, under the names and labels of node_exporter.
//!
//! Read from `/proc` and `/sys` with small readers; what is not there is left out, as on a kernel
//! without pressure figures. Of node_exporter's collectors these are here: cpu, stat, loadavg,
//! meminfo, vmstat, pressure, diskstats, filesystem, netdev, netclass (in part), netstat, sockstat,
//! filefd, conntrack, entropy, uname, time. Absent on purpose: file systems that are reached over
//! the network, since asking one whose server is gone may take for ever.

mod disks;
mod files;
mod kernel;
mod memory;
mod network;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use pilothouse_model::write::MetricType;
use pilothouse_wire::exposition::{TextFormat, TextWriter};

/// Reads the host's figures.
#[derive(Debug, Clone)]
pub struct Host {
    /// What stands before `/proc`, `/sys` and the mount points; `/` but in tests.
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl Host {
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Everything, in Prometheus' text format. Blocks: it reads files.
    pub fn render(&self) -> String {
        let mut page = Page(TextWriter::new(TextFormat::Prometheus));
        for collect in [
            kernel::stat,
            kernel::load,
            kernel::pressure,
            kernel::vmstat,
            kernel::uname,
            kernel::time,
            memory::meminfo,
            disks::diskstats,
            disks::filesystems,
            network::devices,
            network::classes,
            network::netstat,
            network::sockstat,
            files::figures,
        ] {
            collect(self, &mut page);
        }
        page.0.finish()
    }

    /// The name of the host, for the label `instance`.
    pub fn name(&self) -> Option<String> {
        self.read("proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).filter(|n| !n.is_empty())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// A file that holds one number.
    fn number(&self, path: &str) -> Option<f64> {
        self.read(path)?.trim().parse().ok()
    }
}

/// Families as they are written.
struct Page(TextWriter);

/// Labels of a sample, and its value.
type Sample<'a> = (Vec<(&'a str, &'a str)>, f64);

impl Page {
    /// A family; none if it has no samples.
    fn family(&mut self, name: &str, kind: MetricType, help: &str, samples: &[Sample<'_>]) {
        if samples.is_empty() {
            return;
        }
        self.0.family(name, kind, help, "");
        samples.iter().for_each(|(labels, value)| self.0.sample("", labels, *value));
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.single(name, MetricType::Gauge, help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.single(name, MetricType::Counter, help, value);
    }

    fn untyped(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.single(name, MetricType::Unknown, help, value);
    }

    fn single(&mut self, name: &str, kind: MetricType, help: &str, value: Option<f64>) {
        let sample: Vec<Sample<'_>> = value.into_iter().map(|value| (Vec::new(), value)).collect();
        self.family(name, kind, help, &sample);
    }
}

/// The words of a line that are numbers, the others as `None`.
fn numbers(text: &str) -> impl Iterator<Item = Option<f64>> {
    text.split_whitespace().map(|word| word.parse().ok())
}
