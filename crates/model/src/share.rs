//! A limit that several stores share: active series, or active streams, of the whole server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How many all stores have together, and may have.
#[derive(Debug, Default)]
pub struct ServerCount {
    total: AtomicU64,
    /// 0: none.
    limit: AtomicU64,
    is_closed: AtomicBool,
}

impl ServerCount {
    /// 0 is no limit.
    pub fn new(limit: u64) -> Self {
        Self { limit: limit.into(), ..Self::default() }
    }

    /// Those that are above a lower limit already go on.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Whether no store may take one more, whatever the limits, because there is no memory for it.
    /// Those that are known go on. Returns whether that was so before.
    pub fn close(&self, is_closed: bool) -> bool {
        self.is_closed.swap(is_closed, Relaxed)
    }
}

/// One store's view of the limit: what it has itself, what the others have, and a lower limit of
/// its own. Two stores that grow at the same moment may pass the server's limit by what each
/// takes in between two reports, which is one request's worth.
#[derive(Debug)]
pub struct ActiveLimit {
    server: Arc<ServerCount>,
    /// 0: none.
    own_limit: AtomicU64,
    /// What `server` holds of this store.
    reported: AtomicU64,
}

impl ActiveLimit {
    /// 0 is no limit.
    pub fn new(server: Arc<ServerCount>, own_limit: u64) -> Self {
        Self { server, own_limit: own_limit.into(), reported: AtomicU64::new(0) }
    }

    /// For a store that is alone.
    pub fn alone(limit: u64) -> Self {
        Self::new(Arc::new(ServerCount::new(limit)), 0)
    }

    pub fn set_own_limit(&self, limit: u64) {
        self.own_limit.store(limit, Relaxed);
    }

    /// Whether a store that has `active` may take one more; else the limit that it has reached.
    pub fn admit(&self, active: u64) -> Result<(), u64> {
        let own_limit = self.own_limit.load(Relaxed);
        if own_limit > 0 && active >= own_limit {
            return Err(own_limit);
        }
        if self.server.is_closed.load(Relaxed) {
            return Err(self.server.total());
        }
        let server_limit = self.server.limit.load(Relaxed);
        let others = self.server.total().saturating_sub(self.reported.load(Relaxed));
        if server_limit > 0 && others.saturating_add(active) >= server_limit {
            return Err(server_limit);
        }
        Ok(())
    }

    /// Tells the others what this store has now. One call at a time.
    pub fn report(&self, active: u64) {
        let before = self.reported.swap(active, Relaxed);
        if active >= before {
            self.server.total.fetch_add(active - before, Relaxed);
        } else {
            self.server.total.fetch_sub(before - active, Relaxed);
        }
    }
}

impl Drop for ActiveLimit {
    fn drop(&mut self) {
        self.report(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_share_the_servers_limit_and_have_their_own() {
        let server = Arc::new(ServerCount::new(10));
        let a = ActiveLimit::new(Arc::clone(&server), 0);
        let b = ActiveLimit::new(Arc::clone(&server), 3);
        a.report(6);
        assert_eq!((a.admit(9), a.admit(10)), (Ok(()), Err(10)));
        assert_eq!((b.admit(2), b.admit(3)), (Ok(()), Err(3)));
        b.report(3);
        assert_eq!((server.total(), a.admit(6), a.admit(7)), (9, Ok(()), Err(10)));
        b.set_own_limit(0);
        assert_eq!((b.admit(3), b.admit(4)), (Ok(()), Err(10)));
        assert!(!server.close(true));
        assert_eq!((a.admit(0), b.admit(0)), (Err(9), Err(9)));
        assert!(server.close(false) && a.admit(0).is_ok());
        server.set_limit(9);
        assert_eq!(a.admit(6), Err(9));
        a.report(2);
        drop(b);
        assert_eq!(server.total(), 2);
        assert_eq!(ActiveLimit::alone(0).admit(u64::MAX), Ok(()));
    }
}
