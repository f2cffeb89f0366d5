//! A bucket that speaks S3's API as the place of a backup: Scaleway Object Storage, MinIO, S3.
//!
//! Objects are `PREFIX/MANIFEST` and `PREFIX/data/NAME`. S3 replaces an object in one step, and
//! what is sent in parts is there when all parts are; so a run that breaks off leaves the manifest
//! of the run before and all that it names. Parts that were sent by then are in no listing of
//! objects and are paid for: which upload they belong to stands in `PREFIX/UPLOAD`, so that the next run
//! gives it up.
//!
//! Calls go out by the same client as all others of this binary, so that proxies and certificates
//! are said once.

mod options;
mod transport;

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{Read as _, Write};
use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, MultipartId, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload,
    RetryConfig, UpdateVersion,
};
use pilothouse_disk::Error as DiskError;
use pilothouse_disk::backup::{BackupError, Copied, Place, Progress};
use pilothouse_model::limits::{BUCKET_PART_BYTES, BUCKET_PARTS, BUCKET_PARTS_IN_FLIGHT};
use tokio::runtime::Runtime;

pub(crate) use self::options::{Address, BucketOptions};
use self::transport::Transport;

const MANIFEST: &str = "MANIFEST";
const DATA: &str = "data";
/// The upload in parts that was begun last: the name below `data`, a line feed, and its number.
const UPLOAD: &str = "UPLOAD";

/// A prefix in a bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    address: Address,
    store: AmazonS3,
    runtime: Runtime,
    /// What the manifest was when it was read: only that one is replaced.
    read: PutMode,
    /// An upload of this run stands in the bucket.
    has_noted: bool,
}

impl Bucket {
    /// Fails on what cannot be an address or where credentials are missing; nothing is asked yet.
    pub(crate) fn open(address: Address, options: &BucketOptions) -> Result<Self, BackupError> {
        let unusable = |reason: String| BackupError::Unusable { at: address.to_string(), reason };
        options.check().map_err(unusable)?;
        let transport = Transport::new(options).map_err(|e| unusable(e.to_string()))?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&address.bucket)
            .with_region(options.region.as_deref().unwrap_or("us-east-1"))
            .with_access_key_id(options.access_key_id.as_deref().unwrap_or_default())
            .with_secret_access_key(options.secret_access_key.expose())
            .with_virtual_hosted_style_request(!options.path_style)
            // Its checks for https are of its own client.
            .with_allow_http(true)
            .with_disable_bulk_delete(true)
            .with_retry(patience())
            .with_http_connector(transport);
        if let Some(endpoint) = options.endpoint(&address.bucket) {
            builder = builder.with_endpoint(endpoint);
        }
        if !options.session_token.is_empty() {
            builder = builder.with_token(options.session_token.expose());
        }
        let store = builder.build().map_err(|e| unusable(e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| unusable(e.to_string()))?;
        Ok(Self { address, store, runtime, read: PutMode::Create, has_noted: false })
    }

    fn path(&self, name: &str) -> Result<Path, BackupError> {
        let whole = self.address.key(name);
        let unusable = |reason| BackupError::Unusable { at: self.address.to_string(), reason };
        Path::parse(whole).map_err(|e| unusable(e.to_string()))
    }

    fn copy(&self, name: &str) -> Result<Path, BackupError> {
        self.path(&format!("{DATA}/{name}"))
    }

    fn failed(&self, error: &Error) -> BackupError {
        BackupError::Far { at: self.address.to_string(), reason: error.to_string() }
    }

    /// Puts the manifest, if it is still the one that was read.
    fn replace(&self, path: &Path, manifest: &Bytes) -> Result<(), Error> {
        let put = |mode: PutMode| {
            let payload = PutPayload::from(manifest.clone());
            self.runtime.block_on(self.store.put_opts(path, payload, mode.into())).map(drop)
        };
        match put(self.read.clone()) {
            // Not every server knows conditions.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => put(PutMode::Overwrite),
            Err(Error::Generic { source, .. }) if source.to_string().contains("NotImplemented") => {
                put(PutMode::Overwrite)
            }
            done => done,
        }
    }
}

/// A bucket that is busy is asked again, for about a minute.
fn patience() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(500),
        max_backoff: Duration::from_secs(15),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 10, retry_timeout: Duration::from_secs(180) }
}

impl Place for Bucket {
    fn shown(&self) -> String {
        self.address.to_string()
    }

    fn is_far(&self) -> bool {
        true
    }

    fn begin(&mut self) -> Result<(), BackupError> {
        let prefix = self.path("")?;
        let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&prefix)));
        let listed = listed.map_err(|e| self.failed(&e))?;
        let has = |name: &str| listed.objects.iter().any(|object| object.location.filename() == Some(name));
        let is_data = |path: &Path| path.filename() == Some(DATA);
        // Of a first run that broke off there is no manifest yet.
        let others = listed.objects.len() - usize::from(has(UPLOAD));
        let is_new = others == 0 && listed.common_prefixes.iter().all(is_data);
        if !has(MANIFEST) && !is_new {
            return Err(BackupError::NotEmpty { at: self.shown() });
        }
        if has(UPLOAD) {
            self.give_up_noted()?;
        }
        Ok(())
    }

    fn manifest(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let path = self.path(MANIFEST)?;
        let answer = self.runtime.block_on(async {
            let found = self.store.get(&path).await?;
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: None };
            Ok((version, found.bytes().await?))
        });
        match answer {
            Ok((version, bytes)) => {
                self.read = PutMode::Update(version);
                Ok(Some(bytes.to_vec()))
            }
            Err(Error::NotFound { .. }) => {
                self.read = PutMode::Create;
                Ok(None)
            }
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn copies(&mut self) -> Result<BTreeMap<String, u64>, BackupError> {
        let below = self.path(DATA)?;
        let mut listed = self.store.list(Some(&below));
        let mut copies = BTreeMap::new();
        loop {
            let next = self.runtime.block_on(listed.try_next()).map_err(|e| self.failed(&e))?;
            let Some(object) = next else { return Ok(copies) };
            let name = object.location.as_ref().strip_prefix(below.as_ref());
            if let Some(name) = name.and_then(|name| name.strip_prefix('/')) {
                copies.insert(name.to_owned(), object.size);
            }
        }
    }

    fn put(&mut self, name: &str, from: &FilePath, progress: &Progress) -> Result<Copied, BackupError> {
        let path = self.copy(name)?;
        let mut parts = Parts::open(from)?;
        if parts.whole_bytes <= parts.part_bytes {
            let part = parts.next()?.unwrap_or_default();
            let put = self.runtime.block_on(self.store.put(&path, part.into()));
            put.map_err(|e| self.failed(&e))?;
            progress.add_done(parts.copied.bytes);
            return Ok(parts.copied);
        }
        let note = self.path(UPLOAD)?;
        self.has_noted = true;
        self.runtime.block_on(async {
            let id = self.store.create_multipart(&path).await.map_err(|e| self.failed(&e))?;
            let noted = PutPayload::from(format!("{name}\n{id}"));
            let sent = match self.store.put(&note, noted).await {
                Ok(_) => self.send_parts(&path, &id, &mut parts, progress).await,
                Err(e) => Err(self.failed(&e)),
            };
            match sent {
                Ok(sent) => {
                    let whole = self.store.complete_multipart(&path, &id, sent).await;
                    whole.map(drop).map_err(|e| self.failed(&e))
                }
                Err(e) => {
                    // It costs money until it is gone; the first error is the one to tell.
                    let _ = self.store.abort_multipart(&path, &id).await;
                    Err(e)
                }
            }
        })?;
        Ok(parts.copied)
    }

    fn get(&mut self, name: &str, to: &mut dyn Write, progress: &Progress) -> Result<Copied, BackupError> {
        let path = self.copy(name)?;
        let failed = |e: Error| match e {
            Error::NotFound { .. } => BackupError::Damaged {
                at: format!("{}/{DATA}/{name}", self.address),
                reason: "it is not there",
            },
            e => self.failed(&e),
        };
        let whole = self.runtime.block_on(self.store.head(&path)).map_err(failed)?.size;
        let mut copied = Copied::default();
        while copied.bytes < whole {
            let range = copied.bytes..(copied.bytes + BUCKET_PART_BYTES).min(whole);
            let part = self.runtime.block_on(self.store.get_range(&path, range)).map_err(failed)?;
            if part.is_empty() {
                break;
            }
            copied.add(&part);
            to.write_all(&part).map_err(DiskError::io("write", name))?;
            progress.add_done(part.len() as u64);
        }
        Ok(copied)
    }

    fn permissions(&mut self, _name: &str) -> Option<Permissions> {
        None
    }

    fn commit(&mut self, manifest: &[u8]) -> Result<(), BackupError> {
        let (path, manifest) = (self.path(MANIFEST)?, Bytes::copy_from_slice(manifest));
        match self.replace(&path, &manifest) {
            Ok(()) => {
                if self.has_noted {
                    // Left there it would cost the next run a call.
                    let note = self.path(UPLOAD)?;
                    let _ = self.runtime.block_on(self.store.delete(&note));
                }
                Ok(())
            }
            Err(e @ (Error::Precondition { .. } | Error::AlreadyExists { .. })) => {
                // An answer that was lost on the way makes the second try look like this.
                match self.manifest()? {
                    Some(there) if there == manifest => Ok(()),
                    _ => {
                        let reason = format!("another run has finished meanwhile: {e}");
                        Err(BackupError::Far { at: self.shown(), reason })
                    }
                }
            }
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn remove(&mut self, name: &str) -> Result<(), BackupError> {
        let path = self.copy(name)?;
        match self.runtime.block_on(self.store.delete(&path)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed(&e)),
        }
    }
}

impl Bucket {
    /// Gives up the upload that an earlier run left, if it did not finish it. What cannot be given up,
    /// for want of a permission perhaps, keeps nobody from a backup.
    fn give_up_noted(&self) -> Result<(), BackupError> {
        let note = self.path(UPLOAD)?;
        let text = self.runtime.block_on(async { self.store.get(&note).await?.bytes().await });
        let text = text.map_err(|e| self.failed(&e))?;
        let text = String::from_utf8_lossy(&text);
        if let Some((name, id)) = text.split_once('\n') {
            let (path, id) = (self.copy(name)?, MultipartId::from(id));
            match self.runtime.block_on(self.store.abort_multipart(&path, &id)) {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, name, "an unfinished upload of an earlier backup stays in the bucket");
                }
            }
        }
        if let Err(error) = self.runtime.block_on(self.store.delete(&note)) {
            tracing::warn!(%error, "the note of an earlier backup's upload stays in the bucket");
        }
        Ok(())
    }

    /// Some parts are on their way at once, and no more are read than that.
    async fn send_parts(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: &mut Parts,
        progress: &Progress,
    ) -> Result<Vec<PartId>, BackupError> {
        let (mut under_way, mut sent) = (FuturesUnordered::new(), Vec::new());
        loop {
            while under_way.len() < BUCKET_PARTS_IN_FLIGHT
                && let Some(part) = parts.next()?
            {
                let (number, bytes) = (sent.len(), part.len() as u64);
                sent.push(None);
                let put = self.store.put_part(path, id, number, part.into());
                under_way.push(async move { put.await.map(|part| (number, part, bytes)) });
            }
            let Some(done) = under_way.next().await else { break };
            let (number, part, bytes) = done.map_err(|e| self.failed(&e))?;
            progress.add_done(bytes);
            if let Some(place) = sent.get_mut(number) {
                *place = Some(part);
            }
        }
        Ok(sent.into_iter().flatten().collect())
    }
}

/// A file in parts, counted as they are read.
struct Parts {
    file: File,
    name: std::path::PathBuf,
    whole_bytes: u64,
    part_bytes: u64,
    copied: Copied,
}

impl Parts {
    fn open(from: &FilePath) -> Result<Self, DiskError> {
        let file = File::open(from).map_err(DiskError::io("open", from))?;
        let whole_bytes = file.metadata().map_err(DiskError::io("stat", from))?.len();
        // The number of parts is bounded, and all but the last are of one size.
        let part_bytes = whole_bytes.div_ceil(BUCKET_PARTS).max(BUCKET_PART_BYTES);
        Ok(Self { file, name: from.to_owned(), whole_bytes, part_bytes, copied: Copied::default() })
    }

    fn next(&mut self) -> Result<Option<Bytes>, DiskError> {
        let mut part = Vec::new();
        let mut from = (&mut self.file).take(self.part_bytes);
        from.read_to_end(&mut part).map_err(DiskError::io("read", &self.name))?;
        self.copied.add(&part);
        Ok((!part.is_empty()).then(|| Bytes::from(part)))
    }
}
