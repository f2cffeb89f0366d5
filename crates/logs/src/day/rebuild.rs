//! The list of a day's segments, put together from what lies in its directory, where `meta.json` and its copy are
//! both lost.
//!
//! More may lie there than the list named: segments that were merged away, or written and never committed, and deletes
//! that nothing came of. Blocks have ids, so that each is taken from one segment alone; of a block that was rewritten,
//! which keeps its id, the one with fewer entries is the later. Up to where the log is in the day is written nowhere
//! else, so that nothing is taken for done, and what the log has of the day is looked for in its blocks.

use std::collections::BTreeMap;
use std::path::Path;

use hashbrown::HashMap;
use pilothouse_disk::{Position, files};
use serde_json::json;
use tantivy::BitSet;
use tantivy::columnar::ColumnarReader;
use tantivy::directory::{Directory as _, TerminatingWrite as _};
use tantivy::fastfield::{AliveBitSet, write_alive_bitset};
use tantivy::index::{Index, SegmentReader};

use super::directory::{IndexDirectory, segment_of};
use super::one::{Payload, guarded};
use super::schema::{schema, settings};
use super::table::{Row, Table};
use crate::error::Error;

/// A segment of which all can be read that is asked for.
struct Found {
    id: String,
    max_doc: u32,
    /// The last deletes that were written, by their number.
    deletes: Option<u64>,
    alive: Option<AliveBitSet>,
    table: Table,
}

/// The text of a list. What cannot be read is set aside; fails with damage where nothing can.
pub(super) fn list(path: &Path) -> Result<Vec<u8>, Error> {
    let named = segments_named(path)?;
    let last = named.values().flatten().copied().max().unwrap_or(0);
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for (id, deletes) in &named {
        match guarded(path, || open(path, id, deletes.last().copied())) {
            Ok(segment) => found.push(segment),
            Err(error) if error.is_damage() => {
                tracing::error!(%error, segment = id, "a part of a day cannot be read");
                unreadable.push(id);
            }
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() && !unreadable.is_empty() {
        return Err(Error::corrupt(path, "neither the list of its segments nor any of them"));
    }
    let payload = payload_of(&found);
    let segments = each_block_once(path, found, last)?;
    for id in unreadable {
        set_aside(path, id)?;
    }
    text(path, &segments, last + 2, Some(&payload.to_string()))
}

/// Segments by id, each with the numbers of its files of deletes, ascending.
fn segments_named(path: &Path) -> Result<BTreeMap<String, Vec<u64>>, Error> {
    let mut named: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for name in files::file_names(path)? {
        let Some(id) = segment_of(&name) else { continue };
        let deletes = named.entry(id.to_owned()).or_default();
        let number = name.strip_prefix(id).and_then(|rest| rest.strip_suffix(".del"));
        deletes.extend(number.and_then(|number| number.trim_start_matches('.').parse::<u64>().ok()));
    }
    named.values_mut().for_each(|deletes| deletes.sort_unstable());
    Ok(named)
}

fn open(path: &Path, id: &str, deletes: Option<u64>) -> Result<Found, Error> {
    let failed = || Error::tantivy(path);
    let index = told(path, &[])?;
    let read = |name: String| {
        let opened = index.directory().open_read(Path::new(&name));
        opened.map_err(|e| failed()(tantivy::TantivyError::from(e)))
    };
    let columns = ColumnarReader::open(read(format!("{id}.fast"))?).map_err(|e| failed()(e.into()))?;
    let max_doc = columns.num_docs();
    let alive = match deletes {
        Some(number) => {
            let bytes = read(format!("{id}.{number}.del"))?.read_bytes().map_err(|e| failed()(e.into()))?;
            Some(AliveBitSet::open(bytes))
        }
        None => None,
    };
    let entry = entry(id, max_doc, deletes.zip(alive.as_ref().map(|alive| alive.num_alive_docs() as u32)));
    let index = told(path, &[entry])?;
    let segments = index.searchable_segments().map_err(failed())?;
    let segment = segments.first().ok_or_else(|| Error::corrupt(path, "a segment is missing"))?;
    let reader = SegmentReader::open(segment).map_err(failed())?;
    let table = Table::read(&reader).map_err(failed())?;
    reader.get_store_reader(0).map_err(|e| failed()(e.into()))?;
    Ok(Found { id: id.to_owned(), max_doc, deletes, alive, table })
}

/// An index of some segments, whatever is written about them.
fn told(path: &Path, segments: &[serde_json::Value]) -> Result<Index, Error> {
    let text = text(path, segments, 0, None)?;
    Index::open(IndexDirectory::told(path, text)).map_err(Error::tantivy(path))
}

/// As tantivy writes its list.
fn text(
    path: &Path,
    segments: &[serde_json::Value],
    opstamp: u64,
    payload: Option<&str>,
) -> Result<Vec<u8>, Error> {
    let index = Index::builder().schema(schema().0).settings(settings()).create_in_ram();
    let empty = index.and_then(|index| index.load_metas()).map_err(Error::tantivy(path))?;
    let malformed = |e: serde_json::Error| Error::corrupt(path, e.to_string());
    let mut list = serde_json::to_value(empty).map_err(malformed)?;
    if let Some(list) = list.as_object_mut() {
        list.insert("segments".to_owned(), segments.into());
        list.insert("opstamp".to_owned(), opstamp.into());
        list.insert("payload".to_owned(), payload.into());
    }
    serde_json::to_vec_pretty(&list).map_err(malformed)
}

/// A segment in the list; of one with deletes their number, and how many documents are left.
fn entry(id: &str, max_doc: u32, deletes: Option<(u64, u32)>) -> serde_json::Value {
    let deletes = deletes.map(
        |(opstamp, alive)| json!({"num_deleted_docs": max_doc - alive.min(max_doc), "opstamp": opstamp}),
    );
    json!({"segment_id": id, "max_doc": max_doc, "deletes": deletes})
}

/// What the last commit would have carried, as far as blocks tell.
fn payload_of(found: &[Found]) -> Payload {
    let mut payload = Payload { unsure_upto: Some(Position(u64::MAX)), ..Payload::default() };
    for row in found.iter().flat_map(|segment| &segment.table.rows) {
        payload.filters_end = payload.filters_end.max(row.filter.slab.saturating_add(row.filter.slab_bytes));
        payload.newest_ns = payload.newest_ns.max(row.max_ns);
        payload.last_cut = payload.last_cut.max(row.cut);
        payload.next_block = payload.next_block.max(row.id.saturating_add(1));
    }
    payload
}

/// The entries of a list in which no block is twice; where a segment shares some with others, they are deleted from it.
fn each_block_once(path: &Path, mut found: Vec<Found>, last: u64) -> Result<Vec<serde_json::Value>, Error> {
    // Of two that have the same, the one with more blocks is the one that the other was merged into.
    found.sort_by_key(|segment| std::cmp::Reverse(segment.table.rows.len()));
    let mut owners: HashMap<u64, (u32, usize)> = HashMap::new();
    for (number, segment) in found.iter().enumerate() {
        for row in &segment.table.rows {
            let owner = owners.entry(row.id).or_insert((row.entries, number));
            *owner = (*owner).min((row.entries, number));
        }
    }
    let mut entries = Vec::new();
    for (number, segment) in found.iter().enumerate() {
        let is_own = |row: &&Row| owners.get(&row.id).is_some_and(|owner| owner.1 == number);
        let own = segment.table.rows.iter().filter(is_own).count();
        if own == 0 {
            continue;
        }
        let alive = segment.alive.as_ref().map(|alive| alive.num_alive_docs() as u32);
        let mut deletes = segment.deletes.zip(alive);
        if own < segment.table.rows.len() {
            let others = segment.table.rows.iter().filter(|row| !is_own(row));
            deletes = Some((last + 1, delete(path, segment, others, last + 1)?));
        }
        entries.push(entry(&segment.id, segment.max_doc, deletes));
    }
    Ok(entries)
}

/// Deletes blocks from a segment; returns how many documents are left.
fn delete<'a>(
    path: &Path,
    segment: &Found,
    blocks: impl Iterator<Item = &'a Row>,
    number: u64,
) -> Result<u32, Error> {
    let mut alive = BitSet::with_max_value_and_full(segment.max_doc);
    if let Some(before) = &segment.alive {
        (0..segment.max_doc).filter(|doc| before.is_deleted(*doc)).for_each(|doc| alive.remove(doc));
    }
    for row in blocks {
        alive.remove(row.doc);
        alive.remove(row.doc + 1);
    }
    let failed = |e: std::io::Error| Error::io("write deletes in", path)(e);
    let index = told(path, &[])?;
    let name = format!("{}.{number}.del", segment.id);
    // What a try before this one has left.
    files::remove(&path.join(&name))?;
    let out = index.directory().open_write(Path::new(&name));
    let mut out = out.map_err(|e| Error::tantivy(path)(tantivy::TantivyError::from(e)))?;
    write_alive_bitset(&alive, &mut out).map_err(failed)?;
    out.terminate().map_err(failed)?;
    files::sync_directory(path)?;
    Ok(alive.len() as u32)
}

fn set_aside(path: &Path, id: &str) -> Result<(), Error> {
    for name in files::file_names(path)? {
        if segment_of(&name) == Some(id) {
            files::set_aside(&path.join(name), "damaged")?;
        }
    }
    Ok(())
}
