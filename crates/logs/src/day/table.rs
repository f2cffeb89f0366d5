//! The blocks of a segment as a table in memory: what a query asks of each of thousands of
//! blocks is answered here, without a look at the disk.

use tantivy::columnar::Column;
use tantivy::fastfield::FastFieldReaders;
use tantivy::index::SegmentReader;

use super::schema::{FilterPlace, column};
use crate::block::{Encoded, MetadataNames};

/// One block.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    pub(crate) id: u64,
    /// Number of the cut that it was made of.
    pub(crate) cut: u64,
    /// Both inclusive.
    pub(crate) min_ns: i64,
    pub(crate) max_ns: i64,
    pub(crate) entries: u32,
    /// Bytes of lines and metadata.
    pub(crate) bytes: u64,
    pub(crate) metadata_names: MetadataNames,
    /// The first of its two documents.
    pub(crate) doc: u32,
    spans: (u32, u32),
    pub(crate) filter: FilterPlace,
}

/// What a block has of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) stream: u32,
    pub(crate) entries: u32,
    /// Bytes of lines.
    pub(crate) bytes: u32,
    /// Bytes of names and values of structured metadata.
    pub(crate) metadata_bytes: u32,
    /// Both inclusive.
    pub(crate) min_ns: i64,
    pub(crate) max_ns: i64,
}

impl Row {
    pub(crate) fn of(encoded: &Encoded, id: u64, cut: u64) -> Self {
        Self {
            id,
            cut,
            min_ns: encoded.min_ns,
            max_ns: encoded.max_ns,
            entries: encoded.entries,
            bytes: u64::from(encoded.text_bytes) + encoded.metadata_bytes,
            metadata_names: encoded.metadata_names,
            ..Self::default()
        }
    }

    /// Of a block of which nothing is known but its id.
    pub(crate) fn unknown(id: u64) -> Self {
        Self { id, ..Self::default() }
    }

    /// Whether an entry may lie in `start <= t < end`.
    #[inline]
    pub(crate) fn overlaps(&self, start_ns: i64, end_ns: i64) -> bool {
        self.min_ns < end_ns && self.max_ns >= start_ns
    }
}

impl Span {
    /// Whether an entry may lie in `start <= t < end`.
    #[inline]
    pub(crate) fn overlaps(&self, start_ns: i64, end_ns: i64) -> bool {
        self.min_ns < end_ns && self.max_ns >= start_ns
    }

    #[inline]
    pub(crate) fn lies_within(&self, start_ns: i64, end_ns: i64) -> bool {
        self.min_ns >= start_ns && self.max_ns < end_ns
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    spans: Vec<Span>,
    /// Of all rows, both inclusive.
    bounds_ns: Option<(i64, i64)>,
}

impl Table {
    /// Whether an entry may lie in `start <= t < end`.
    pub(crate) fn overlaps(&self, start_ns: i64, end_ns: i64) -> bool {
        self.bounds_ns.is_some_and(|(min, max)| min < end_ns && max >= start_ns)
    }

    pub(crate) fn spans(&self, row: &Row) -> &[Span] {
        self.spans.get(row.spans.0 as usize..row.spans.1 as usize).unwrap_or(&[])
    }

    /// All blocks with their streams.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (&Row, &[Span])> {
        self.rows.iter().map(|row| (row, self.spans(row)))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>() + self.spans.capacity() * size_of::<Span>()
    }

    /// Reads the table of a segment, without the blocks that are deleted.
    pub(crate) fn read(segment: &SegmentReader) -> tantivy::Result<Self> {
        let fast = segment.fast_fields();
        let number = |name: &str| fast.u64(name);
        let id = number(column::ID)?;
        let cut = number(column::CUT)?;
        let (min_ns, max_ns) = (fast.i64(column::MIN_NS)?, fast.i64(column::MAX_NS)?);
        let (entries, bytes) = (number(column::ENTRIES)?, number(column::BYTES)?);
        let metadata = number(column::METADATA)?;
        let (slab, slab_bytes) = (number(column::SLAB)?, number(column::SLAB_BYTES)?);
        let in_slab = number(column::IN_SLAB)?;
        let streams = StreamColumns::open(fast)?;
        let mut table = Self::default();
        for doc in 0..segment.max_doc() {
            // Only the first document of a block has these.
            let (Some(cut), Some(min_ns)) = (cut.first(doc), min_ns.first(doc)) else { continue };
            if segment.is_deleted(doc) {
                continue;
            }
            let first = table.spans.len() as u32;
            streams.read(doc, min_ns, &mut table.spans);
            let of = |column: &Column<u64>| column.first(doc).unwrap_or(0);
            table.rows.push(Row {
                id: of(&id),
                cut,
                min_ns,
                max_ns: max_ns.first(doc).unwrap_or(min_ns),
                entries: of(&entries) as u32,
                bytes: of(&bytes),
                metadata_names: MetadataNames(of(&metadata)),
                doc,
                spans: (first, table.spans.len() as u32),
                filter: FilterPlace { slab: of(&slab), slab_bytes: of(&slab_bytes), in_slab: of(&in_slab) },
            });
        }
        let min_ns = table.rows.iter().map(|r| r.min_ns).min();
        table.bounds_ns = min_ns.zip(table.rows.iter().map(|r| r.max_ns).max());
        table.rows.shrink_to_fit();
        table.spans.shrink_to_fit();
        Ok(table)
    }
}

struct StreamColumns {
    stream: Column<u64>,
    entries: Column<u64>,
    bytes: Column<u64>,
    metadata_bytes: Column<u64>,
    from: Column<u64>,
    to: Column<u64>,
}

impl StreamColumns {
    fn open(fast: &FastFieldReaders) -> tantivy::Result<Self> {
        Ok(Self {
            stream: fast.u64(column::STREAM)?,
            entries: fast.u64(column::STREAM_ENTRIES)?,
            bytes: fast.u64(column::STREAM_BYTES)?,
            metadata_bytes: fast.u64(column::STREAM_METADATA)?,
            from: fast.u64(column::STREAM_FROM)?,
            to: fast.u64(column::STREAM_TO)?,
        })
    }

    fn read(&self, doc: u32, min_ns: i64, spans: &mut Vec<Span>) {
        let bytes = self.bytes.values_for_doc(doc).zip(self.metadata_bytes.values_for_doc(doc));
        let numbers = self.entries.values_for_doc(doc).zip(bytes);
        let times = self.from.values_for_doc(doc).zip(self.to.values_for_doc(doc));
        for (stream, ((entries, (bytes, metadata_bytes)), (from, to))) in
            self.stream.values_for_doc(doc).zip(numbers.zip(times))
        {
            spans.push(Span {
                stream: stream as u32,
                entries: entries as u32,
                bytes: bytes as u32,
                metadata_bytes: metadata_bytes as u32,
                min_ns: min_ns.saturating_add_unsigned(from),
                max_ns: min_ns.saturating_add_unsigned(to),
            });
        }
    }
}
