//! Tokens: a secret shown once, of which a hash stays.

use std::fmt;
use std::sync::Arc;

use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::audit::{Actor, Event};
use crate::control::Control;
use crate::error::{Error, Resource};
use crate::grant::{Grant, TokenUse};
use crate::ids::{ProjectId, TokenId};
use crate::list::{Listable, Listed, Order, Page, SortKey};
use crate::region::Region;
use crate::row::{Row, Stamp, StampMessage};
use crate::scope::Scopes;
use crate::usage::Amounts;

pub(crate) const HASH_BYTES: usize = 32;

/// What callers may know of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub project: ProjectId,
    pub region: Region,
    pub name: String,
    pub scopes: Scopes,
    pub stamp: Stamp,
}

/// The secret of a new token. It never prints and is stored nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// 244 random bits as hexadecimal digits. They come from the operating system; a single fast
    /// hash is enough for a secret of this size, and it is taken on every push.
    fn random() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Debug, Clone)]
pub struct NewToken {
    pub project: ProjectId,
    pub region: Region,
    pub name: String,
    pub scopes: Scopes,
}

#[derive(Debug, Clone, Default)]
pub struct TokenFilter {
    pub region: Region,
    pub project: Option<ProjectId>,
    /// Tokens with any of these; all tokens where empty.
    pub scopes: Scopes,
    pub order: Order,
    pub page: Page,
}

/// A token as it is stored.
#[derive(Clone)]
pub(crate) struct StoredToken {
    pub(crate) id: TokenId,
    pub(crate) project: ProjectId,
    region: Region,
    name: String,
    pub(crate) scopes: Scopes,
    stamp: Stamp,
    pub(crate) hash: [u8; HASH_BYTES],
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredToken").field(&self.shown()).finish_non_exhaustive()
    }
}

impl StoredToken {
    fn shown(&self) -> Token {
        Token {
            id: self.id,
            project: self.project,
            region: self.region,
            name: self.name.clone(),
            scopes: self.scopes,
            stamp: self.stamp,
        }
    }
}

impl Listable for StoredToken {
    fn number(&self) -> u64 {
        self.stamp.number
    }

    fn sorted_by(&self, key: SortKey) -> &str {
        if key == SortKey::Name { &self.name } else { "" }
    }
}

pub(crate) fn hash_of(secret: &str) -> [u8; HASH_BYTES] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Where grants are looked up. Comparing the rest takes constant time.
pub(crate) fn prefix_of(hash: &[u8; HASH_BYTES]) -> u64 {
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

// ---- what may be done ----

impl Control {
    /// Makes a token; it is in force when this returns.
    pub fn create_token(&self, by: &Actor, new: NewToken) -> Result<(Token, Secret), Error> {
        let name = crate::control::checked_name("name", &new.name)?;
        let secret = Secret::random();
        let hash = hash_of(secret.reveal());
        let token = self.change(by, |draft| {
            draft.check_quota(Resource::Token, draft.image().tokens.len(), draft.limits().max_tokens)?;
            draft.touch_project(new.project);
            let token = StoredToken {
                id: TokenId::random(),
                project: new.project,
                region: new.region,
                name,
                scopes: new.scopes,
                stamp: draft.stamp(),
                hash,
            };
            let shown = token.shown();
            draft.put(token);
            Ok((shown.clone(), event("create", &shown)))
        })?;
        Ok((token, secret))
    }

    pub fn token(&self, region: Region, id: TokenId) -> Result<Token, Error> {
        let image = self.image();
        let found = image.get::<StoredToken>(&id).filter(|t| t.region == region);
        found.map(|t| t.shown()).ok_or_else(|| Error::not_found(Resource::Token, id))
    }

    pub fn tokens(&self, filter: &TokenFilter) -> Listed<Token> {
        let image = self.image();
        let kept = image.tokens.values().filter(|t| {
            t.region == filter.region
                && filter.project.is_none_or(|p| p == t.project)
                && (filter.scopes.is_empty() || t.scopes.intersects(filter.scopes))
        });
        Listed::of(kept, filter.order, filter.page, StoredToken::shown)
    }

    /// Deletes a token; no request is admitted by it when this returns, and its open connections
    /// see it.
    pub fn delete_token(&self, by: &Actor, region: Region, id: TokenId) -> Result<(), Error> {
        self.change(by, |draft| {
            let found = draft.image().get::<StoredToken>(&id).filter(|t| t.region == region);
            let token = found.map(|t| t.shown()).ok_or_else(|| Error::not_found(Resource::Token, id))?;
            draft.remove::<StoredToken>(&id);
            draft.forget::<TokenUseRow>(&id);
            Ok(((), event("delete", &token)))
        })
    }

    /// What a secret stands for, counting the request that brought it; `None` for no token.
    pub fn grant(&self, secret: &str) -> Option<Arc<Grant>> {
        let hash = hash_of(secret);
        let image = self.image();
        let grant = image.grants.get(&prefix_of(&hash))?.iter().find(|g| g.has_hash(&hash))?;
        grant.used(self.now_ms());
        Some(Arc::clone(grant))
    }

    pub fn token_count(&self) -> usize {
        self.image().tokens.len()
    }

    /// What was done with each token, by the order of making.
    pub fn token_uses(&self) -> Vec<(Token, TokenUse)> {
        let image = self.image();
        let uses = image.grants.values().flatten().map(|g| (g.token(), g.total_use()));
        let uses: std::collections::HashMap<_, _> = uses.collect();
        let mut all: Vec<(Token, TokenUse)> = image
            .tokens
            .values()
            .map(|t| (t.shown(), uses.get(&t.id).copied().unwrap_or_default()))
            .collect();
        all.sort_by_key(|(token, _)| token.stamp.number);
        all
    }
}

fn event(action: &'static str, token: &Token) -> Event {
    let scopes: Vec<&str> = token.scopes.iter().map(crate::scope::Scope::as_str).collect();
    Event::new(action, Resource::Token, token.id)
        .of(token.project, Some(token.region))
        .with("name", &token.name)
        .with("scopes", scopes.join(","))
}

// ---- on the disk ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TokenMessage {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    project: Vec<u8>,
    #[prost(string, tag = "3")]
    region: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(uint32, tag = "5")]
    scopes: u32,
    #[prost(message, required, tag = "6")]
    stamp: StampMessage,
    /// SHA-256 of the secret.
    #[prost(bytes = "vec", tag = "7")]
    hash: Vec<u8>,
}

impl Row for StoredToken {
    const TABLE: &'static str = "tokens";
    type Key = TokenId;
    type Message = TokenMessage;

    fn key(&self) -> TokenId {
        self.id
    }

    fn to_message(&self) -> TokenMessage {
        TokenMessage {
            id: self.id.to_bytes(),
            project: self.project.to_bytes(),
            region: self.region.to_string(),
            name: self.name.clone(),
            scopes: self.scopes.bits(),
            stamp: self.stamp.into(),
            hash: self.hash.to_vec(),
        }
    }

    fn from_message(message: TokenMessage) -> Option<Self> {
        Some(Self {
            id: TokenId::from_bytes(&message.id)?,
            project: ProjectId::from_bytes(&message.project)?,
            region: message.region.parse().ok()?,
            name: message.name,
            scopes: Scopes::from_bits(message.scopes),
            stamp: message.stamp.into(),
            hash: message.hash.try_into().ok()?,
        })
    }
}

/// A token's use as it was last written down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenUseRow {
    pub(crate) token: TokenId,
    pub(crate) total: TokenUse,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TokenUseMessage {
    #[prost(bytes = "vec", tag = "1")]
    token: Vec<u8>,
    #[prost(uint64, tag = "2")]
    requests: u64,
    #[prost(uint64, tag = "3")]
    samples: u64,
    #[prost(uint64, tag = "4")]
    entries: u64,
    #[prost(uint64, tag = "5")]
    bytes: u64,
    #[prost(int64, tag = "6")]
    last_used_ms: i64,
    #[prost(uint64, tag = "7")]
    series: u64,
    #[prost(uint64, tag = "8")]
    streams: u64,
}

impl Row for TokenUseRow {
    const TABLE: &'static str = "token_use";
    type Key = TokenId;
    type Message = TokenUseMessage;

    fn key(&self) -> TokenId {
        self.token
    }

    fn to_message(&self) -> TokenUseMessage {
        let TokenUse { requests, stored, last_used_ms } = self.total;
        let Amounts { samples, entries, bytes, series, streams } = stored;
        let token = self.token.to_bytes();
        TokenUseMessage { token, requests, samples, entries, bytes, last_used_ms, series, streams }
    }

    fn from_message(message: TokenUseMessage) -> Option<Self> {
        let TokenUseMessage { samples, entries, bytes, series, streams, .. } = message;
        let stored = Amounts { samples, entries, bytes, series, streams };
        let total = TokenUse { requests: message.requests, stored, last_used_ms: message.last_used_ms };
        Some(Self { token: TokenId::from_bytes(&message.token)?, total })
    }
}
