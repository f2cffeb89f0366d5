//! File descriptors: as many as the system gives, and how many of them connections may take.

use pilothouse_model::limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for the data: the log, the open day files, and what is made or synced beside them.
const RESERVED: u64 = 128;
/// Below this the server would be of no use; it is tried all the same.
const MIN_CONNECTIONS: u64 = 16;

/// Raises the limit of open files to what the process may have at most; systems start processes
/// with a low one for the sake of programs that use select(2). Returns how many connections fit.
pub(crate) fn raise_limit(open_day_files: u64) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files: {e}");
    }
    let connections = connections(getrlimit(Resource::Nofile).current, open_day_files);
    if (connections as u64) < limits::CONNECTIONS {
        tracing::warn!("the limit of open files leaves room for {connections} connections");
    }
    connections
}

/// `None` is a process without a limit.
fn connections(limit: Option<u64>, open_day_files: u64) -> usize {
    let left =
        limit.map_or(limits::CONNECTIONS, |l| l.saturating_sub(RESERVED.saturating_add(open_day_files)));
    left.clamp(MIN_CONNECTIONS, limits::CONNECTIONS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_data() {
        for (limit, open_day_files, expected) in [
            (None, 64, 8_192),
            (Some(1_048_576), 64, 8_192),
            (Some(1_024), 64, 832),
            (Some(1_024), u64::MAX, 16),
            (Some(0), 0, 16),
        ] {
            assert_eq!(connections(limit, open_day_files), expected, "{limit:?}");
        }
    }

    #[test]
    fn the_limit_is_what_the_process_may_have() {
        raise_limit(0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
