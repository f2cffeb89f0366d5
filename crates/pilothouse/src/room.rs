//! How much of the machine the server may take: memory and disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pilothouse_disk::space::{Bounds, Guard};
use pilothouse_model::limits::Limits;

use crate::config::{Config, Setting, Settings, read_limit};
use crate::machine;
use crate::reload::{Apply, Part};

/// What a server takes of the memory that there is, in percent, unless it is told.
const MEMORY_SHARE: u64 = 75;
/// Below this nothing works.
const LEAST_MEMORY: u64 = 64 << 20;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Setting for Size {
    const ALLOWED: &'static str = "a size such as 512MiB or 10GB";

    fn from_text(text: &str) -> Result<Self, String> {
        read_limit(text, "bytes").map(Self)
    }

    fn show(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// What is done when the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Writes are refused until there is room.
    Refuse,
    /// The oldest day of all data sources goes; writes are refused only while that is not enough.
    DropOldest,
}

impl Setting for WhenFull {
    const ALLOWED: &'static str = "refuse or drop-oldest";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "drop-oldest" => Ok(Self::DropOldest),
            _ => Err(format!("{text:?} will not do: {} is wanted", Self::ALLOWED)),
        }
    }

    fn show(&self) -> Option<String> {
        Some(if *self == Self::Refuse { "\"refuse\"" } else { "\"drop-oldest\"" }.to_owned())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoomConfig {
    /// `u64::MAX` for no limit.
    pub(crate) memory_limit_bytes: u64,
    pub(crate) disk: Bounds,
    pub(crate) when_full: WhenFull,
}

impl RoomConfig {
    /// What was said, or what suits the machine.
    pub(crate) fn of(settings: &Settings) -> Self {
        let memory_limit_bytes = match settings.memory_limit {
            Some(Size(0)) => u64::MAX,
            Some(Size(bytes)) => bytes.max(LEAST_MEMORY),
            None => {
                machine::memory_bytes().map_or(u64::MAX, |all| (all / 100 * MEMORY_SHARE).max(LEAST_MEMORY))
            }
        };
        let disk = Bounds {
            limit_bytes: settings.disk_limit.map_or(0, |size| size.0),
            min_free_bytes: settings.min_free_disk.map(|size| size.0),
        };
        Self { memory_limit_bytes, disk, when_full: settings.disk_full_policy }
    }

    /// Limits that fit into the memory there is, where nobody has said otherwise.
    pub(crate) fn fit(&self, limits: &Limits, is_said: impl Fn(&str) -> bool) -> Limits {
        let mut fitting = limits.clone();
        let within = Limits::within(self.memory_limit_bytes);
        for info in Limits::LIST {
            if let Some(value) = within.get(info.name).filter(|_| !is_said(info.name)) {
                fitting.set(info.name, value);
            }
        }
        fitting
    }
}

/// The room on the disk while the server runs; a reload may change how much there is, and what is
/// done when it is full.
#[derive(Debug, Clone)]
pub(crate) struct DiskRoom {
    pub(crate) guard: Arc<Guard>,
    drops_oldest: Arc<AtomicBool>,
}

impl DiskRoom {
    pub(crate) fn new(guard: Arc<Guard>, when_full: WhenFull) -> Self {
        Self { guard, drops_oldest: Arc::new((when_full == WhenFull::DropOldest).into()) }
    }

    pub(crate) fn drops_oldest(&self) -> bool {
        self.drops_oldest.load(Relaxed)
    }
}

impl Part for DiskRoom {
    fn prepare(&self, next: &Config) -> Result<Apply, String> {
        let (this, next) = (self.clone(), next.room);
        Ok(Box::new(move || {
            this.guard.set_bounds(next.disk);
            this.drops_oldest.store(next.when_full == WhenFull::DropOldest, Relaxed);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_shrinks_what_nobody_has_set() {
        let settings = Settings {
            memory_limit: Some(Size(512 << 20)),
            disk_limit: Some(Size(5 << 30)),
            disk_full_policy: WhenFull::DropOldest,
            ..Settings::default()
        };
        let room = RoomConfig::of(&settings);
        assert_eq!(room.disk, Bounds { limit_bytes: 5 << 30, min_free_bytes: None });
        let limits = room.fit(&settings.limits, |name| name == "log_tail_bytes");
        assert_eq!((limits.head_memory_bytes, limits.log_tail_bytes), (64 << 20, 64 << 20));
        assert_eq!(limits.max_query_series, settings.limits.max_query_series);
        let of = |text| RoomConfig::of(&Settings { memory_limit: Some(Size(text)), ..Settings::default() });
        assert_eq!((of(0).memory_limit_bytes, of(1).memory_limit_bytes), (u64::MAX, LEAST_MEMORY));
    }

    #[test]
    fn sizes_and_policies_read_back() {
        assert_eq!(Size::from_text("512MiB"), Ok(Size(512 << 20)));
        assert_eq!(WhenFull::from_text("drop-oldest"), Ok(WhenFull::DropOldest));
        for policy in [WhenFull::Refuse, WhenFull::DropOldest] {
            assert_eq!(WhenFull::from_text(policy.show().unwrap_or_default().trim_matches('"')), Ok(policy));
        }
        assert!(Size::from_text("lots").is_err() && WhenFull::from_text("panic").is_err());
    }
}
