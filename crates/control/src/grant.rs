//! What a secret stands for while the process runs: asked on every request, so kept apart from
//! the token's record and shared by all its requests.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use subtle::ConstantTimeEq as _;

use crate::ids::{ProjectId, TokenId};
use crate::scope::{Scope, Scopes};
use crate::token::{HASH_BYTES, StoredToken};
use crate::usage::Amounts;

/// The rights of one token. An open connection keeps it and asks [`Grant::is_revoked`] now and
/// then.
#[derive(Debug)]
pub struct Grant {
    token: TokenId,
    project: ProjectId,
    scopes: Scopes,
    hash: [u8; HASH_BYTES],
    revoked: AtomicBool,
    requests: AtomicU64,
    samples: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    series: AtomicU64,
    streams: AtomicU64,
    last_used_ms: AtomicI64,
    unsaved: AtomicBool,
}

/// What was done with a token since it was made, as far as it was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenUse {
    pub requests: u64,
    pub stored: Amounts,
    /// 0: never.
    pub last_used_ms: i64,
}

impl Grant {
    pub(crate) fn of(token: &StoredToken) -> Self {
        Self {
            token: token.id,
            project: token.project,
            scopes: token.scopes,
            hash: token.hash,
            revoked: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            series: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            last_used_ms: AtomicI64::new(0),
            unsaved: AtomicBool::new(false),
        }
    }

    pub fn token(&self) -> TokenId {
        self.token
    }

    /// The project it belongs to; other projects' data sources are closed to it.
    pub fn project(&self) -> ProjectId {
        self.project
    }

    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }

    /// Whether the token was deleted. Never becomes false again.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    /// Takes the same time wherever the hashes differ.
    pub(crate) fn has_hash(&self, hash: &[u8; HASH_BYTES]) -> bool {
        self.hash.ct_eq(hash).into()
    }

    pub(crate) fn used(&self, now_ms: i64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.last_used_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.mark_unsaved();
    }

    /// Whether it was used since the last call.
    pub(crate) fn take_unsaved(&self) -> bool {
        self.unsaved.swap(false, Ordering::Relaxed)
    }

    /// What is written down may be less than what was used.
    pub(crate) fn mark_unsaved(&self) {
        self.unsaved.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stored(&self, amounts: Amounts) {
        let Amounts { samples, entries, bytes, series, streams } = amounts;
        self.samples.fetch_add(samples, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.series.fetch_add(series, Ordering::Relaxed);
        self.streams.fetch_add(streams, Ordering::Relaxed);
    }

    /// Adds what earlier runs of the process wrote down.
    pub(crate) fn add(&self, before: TokenUse) {
        self.requests.fetch_add(before.requests, Ordering::Relaxed);
        self.stored(before.stored);
        self.last_used_ms.fetch_max(before.last_used_ms, Ordering::Relaxed);
    }

    pub fn total_use(&self) -> TokenUse {
        TokenUse {
            requests: self.requests.load(Ordering::Relaxed),
            stored: Amounts {
                samples: self.samples.load(Ordering::Relaxed),
                entries: self.entries.load(Ordering::Relaxed),
                bytes: self.bytes.load(Ordering::Relaxed),
                series: self.series.load(Ordering::Relaxed),
                streams: self.streams.load(Ordering::Relaxed),
            },
            last_used_ms: self.last_used_ms.load(Ordering::Relaxed),
        }
    }
}
