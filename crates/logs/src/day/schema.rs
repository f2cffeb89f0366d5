//! What tantivy is told of a block.
//!
//! A block is two documents, one behind the other: the first has everything that tells about the
//! block and its head, the second body and metadata. Each document is a piece of the document
//! store by itself, so that counting reads heads and never passes over bodies.

use tantivy::TantivyDocument;
use tantivy::directory::OwnedBytes;
use tantivy::index::IndexSettings;
use tantivy::schema::{BytesOptions, Field, NumericOptions, Schema};
use tantivy::store::Compressor;

use super::table::{Row, Span};

/// Fields by name; the order is that of the schema.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    /// Of both documents, and the term by which a block is deleted.
    pub(crate) id: Field,
    cut: Field,
    min_ns: Field,
    max_ns: Field,
    entries: Field,
    bytes: Field,
    metadata: Field,
    slab: Field,
    slab_bytes: Field,
    in_slab: Field,
    /// One value for each stream of the block, in the order of streams.
    stream: Field,
    stream_entries: Field,
    stream_bytes: Field,
    stream_metadata: Field,
    stream_from: Field,
    stream_to: Field,
    head: Field,
    body: Field,
    sets: Field,
}

/// Column names as the table reads them.
pub(crate) mod column {
    pub(crate) const ID: &str = "id";
    pub(crate) const CUT: &str = "cut";
    pub(crate) const MIN_NS: &str = "min_ns";
    pub(crate) const MAX_NS: &str = "max_ns";
    pub(crate) const ENTRIES: &str = "entries";
    pub(crate) const BYTES: &str = "bytes";
    pub(crate) const METADATA: &str = "metadata";
    pub(crate) const SLAB: &str = "slab";
    pub(crate) const SLAB_BYTES: &str = "slab_bytes";
    pub(crate) const IN_SLAB: &str = "in_slab";
    pub(crate) const STREAM: &str = "stream";
    pub(crate) const STREAM_ENTRIES: &str = "stream_entries";
    pub(crate) const STREAM_BYTES: &str = "stream_bytes";
    pub(crate) const STREAM_METADATA: &str = "stream_metadata";
    pub(crate) const STREAM_FROM: &str = "stream_from";
    pub(crate) const STREAM_TO: &str = "stream_to";
}

pub(crate) fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let fast = || NumericOptions::default().set_fast();
    let stored = || BytesOptions::default().set_stored();
    let fields = Fields {
        id: schema.add_u64_field(column::ID, fast().set_indexed()),
        cut: schema.add_u64_field(column::CUT, fast()),
        min_ns: schema.add_i64_field(column::MIN_NS, fast()),
        max_ns: schema.add_i64_field(column::MAX_NS, fast()),
        entries: schema.add_u64_field(column::ENTRIES, fast()),
        bytes: schema.add_u64_field(column::BYTES, fast()),
        metadata: schema.add_u64_field(column::METADATA, fast()),
        slab: schema.add_u64_field(column::SLAB, fast()),
        slab_bytes: schema.add_u64_field(column::SLAB_BYTES, fast()),
        in_slab: schema.add_u64_field(column::IN_SLAB, fast()),
        stream: schema.add_u64_field(column::STREAM, fast()),
        stream_entries: schema.add_u64_field(column::STREAM_ENTRIES, fast()),
        stream_bytes: schema.add_u64_field(column::STREAM_BYTES, fast()),
        stream_metadata: schema.add_u64_field(column::STREAM_METADATA, fast()),
        stream_from: schema.add_u64_field(column::STREAM_FROM, fast()),
        stream_to: schema.add_u64_field(column::STREAM_TO, fast()),
        head: schema.add_bytes_field("head", stored()),
        body: schema.add_bytes_field("body", stored()),
        sets: schema.add_bytes_field("sets", stored()),
    };
    (schema.build(), fields)
}

pub(crate) fn settings() -> IndexSettings {
    IndexSettings {
        // Bodies are compressed already, and merges copy them as they are.
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        // Each document fills a piece of the store.
        docstore_blocksize: 1,
        ..IndexSettings::default()
    }
}

/// Where the filter of a block lies.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FilterPlace {
    pub(crate) slab: u64,
    pub(crate) slab_bytes: u64,
    pub(crate) in_slab: u64,
}

impl Fields {
    pub(crate) fn first_document(
        &self,
        row: &Row,
        spans: &[Span],
        filter: FilterPlace,
        head: &[u8],
    ) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_u64(self.id, row.id);
        document.add_u64(self.cut, row.cut);
        document.add_i64(self.min_ns, row.min_ns);
        document.add_i64(self.max_ns, row.max_ns);
        document.add_u64(self.entries, u64::from(row.entries));
        document.add_u64(self.bytes, row.bytes);
        document.add_u64(self.metadata, row.metadata_names.0);
        document.add_u64(self.slab, filter.slab);
        document.add_u64(self.slab_bytes, filter.slab_bytes);
        document.add_u64(self.in_slab, filter.in_slab);
        for span in spans {
            document.add_u64(self.stream, u64::from(span.stream));
            document.add_u64(self.stream_entries, u64::from(span.entries));
            document.add_u64(self.stream_bytes, u64::from(span.bytes));
            document.add_u64(self.stream_metadata, u64::from(span.metadata_bytes));
            document.add_u64(self.stream_from, row.min_ns.abs_diff(span.min_ns));
            document.add_u64(self.stream_to, row.min_ns.abs_diff(span.max_ns));
        }
        document.add_bytes(self.head, head);
        document
    }

    pub(crate) fn second_document(&self, row: &Row, body: &[u8], sets: &[u8]) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_u64(self.id, row.id);
        document.add_bytes(self.body, body);
        if !sets.is_empty() {
            document.add_bytes(self.sets, sets);
        }
        document
    }

    /// The head, of the stored bytes of a first document.
    pub(crate) fn head_of(&self, document: &OwnedBytes) -> Option<OwnedBytes> {
        stored(document, self.head)
    }

    /// Body and metadata, of the stored bytes of a second document.
    pub(crate) fn body_of(&self, document: &OwnedBytes) -> Option<(OwnedBytes, OwnedBytes)> {
        Some((stored(document, self.body)?, stored(document, self.sets).unwrap_or_else(OwnedBytes::empty)))
    }
}

/// tantivy's code for a value that is bytes.
const BYTES: u8 = 4;

/// The value of a field in the bytes that tantivy stores of a document: the number of values, then
/// for each the field's number, what it is, its length and the bytes. tantivy itself reads
/// it byte by byte, which takes as long as all that is done with a block afterwards.
fn stored(document: &OwnedBytes, field: Field) -> Option<OwnedBytes> {
    let mut at = 0;
    for _ in 0..number(document, &mut at)? {
        let id = u32::from_le_bytes(document.get(at..at.checked_add(4)?)?.try_into().ok()?);
        let kind = *document.get(at + 4)?;
        at += 5;
        let bytes = usize::try_from(number(document, &mut at)?).ok()?;
        let value = at..at.checked_add(bytes)?;
        if kind != BYTES || value.end > document.len() {
            return None;
        }
        if id == field.field_id() {
            return Some(document.slice(value));
        }
        at = value.end;
    }
    None
}

/// A number of tantivy's: seven bits a byte, low ones first, the last byte has the top bit.
fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte >= 0x80 {
            return Some(value);
        }
    }
    None
}
