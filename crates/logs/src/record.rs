//! What a record of the write-ahead log says.
//!
//! A record holds what was *accepted* of one request, so that replay needs no rule of its own:
//! it does again what was done. The bytes are told in `docs/formats/logs.md`.

use pilothouse_model::{Labels, MatchOp, Matcher};

use pilothouse_model::bytes::{Malformed, Reader, push_signed, push_slice, push_varint};

const ENTRIES: u8 = 1;
const DELETION: u8 = 2;
const CANCEL: u8 = 3;

/// A deletion request, as it is kept: entries of matching streams between two times, start
/// inclusive, end exclusive, in everything that was cut up to and including `upto_cut`.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletion {
    pub id: u64,
    pub created_ms: i64,
    /// Entries cut later than this are not touched.
    pub upto_cut: u64,
    pub start_ns: i64,
    pub end_ns: i64,
    pub matchers: Vec<Matcher>,
    /// The text of a line filter; only lines that it lets pass are deleted. Empty: all.
    pub filter: String,
    /// The request as the client wrote it, for the list.
    pub query: String,
    /// Whether it can no longer be taken back.
    pub is_final: bool,
    /// Whether it is done: nothing on the disk has what it is about.
    pub done: bool,
}

/// Takes what a record says, in order.
pub(crate) trait RecordSink {
    fn stream(&mut self, id: u32, group: u32, labels: Labels);
    /// Entries of this stream follow.
    fn part(&mut self, id: u32);
    fn entry(&mut self, t_ns: i64, line: &str, metadata: &Labels);
    fn deletion(&mut self, deletion: Deletion);
    fn cancel(&mut self, deletion: u64);
}

/// Collects one record. Reused from request to request.
#[derive(Debug, Default)]
pub(crate) struct RecordWriter {
    streams: Vec<u8>,
    stream_count: u64,
    sets: Vec<u8>,
    set_count: u64,
    last_set: Labels,
    /// Streams with their entries; each begins with its id plus one, 0 ends the list.
    parts: Vec<u8>,
    /// Entries of the part that was begun last.
    part: Vec<u8>,
    part_entries: u64,
    part_id: u32,
    last_t_ns: i64,
    text: Vec<u8>,
    record: Vec<u8>,
}

impl RecordWriter {
    pub(crate) fn clear(&mut self) {
        let sections = [
            &mut self.streams,
            &mut self.sets,
            &mut self.parts,
            &mut self.part,
            &mut self.text,
            &mut self.record,
        ];
        for section in sections {
            section.clear();
            // One large request must not hold its memory for ever.
            section.shrink_to(1 << 20);
        }
        (self.stream_count, self.set_count, self.part_entries) = (0, 0, 0);
        self.last_set = Labels::empty();
    }

    pub(crate) fn stream(&mut self, id: u32, group: u32, labels: &Labels) {
        self.stream_count += 1;
        push_varint(&mut self.streams, u64::from(id));
        push_varint(&mut self.streams, u64::from(group));
        push_slice(&mut self.streams, labels.as_encoded().as_bytes());
    }

    pub(crate) fn begin_part(&mut self, id: u32) {
        self.end_part();
        (self.part_id, self.last_t_ns) = (id, 0);
    }

    fn end_part(&mut self) {
        if self.part_entries > 0 {
            push_varint(&mut self.parts, u64::from(self.part_id) + 1);
            push_varint(&mut self.parts, self.part_entries);
            self.parts.extend_from_slice(&self.part);
        }
        self.part.clear();
        self.part_entries = 0;
    }

    #[inline]
    pub(crate) fn entry(&mut self, t_ns: i64, line: &str, metadata: &Labels) {
        push_signed(&mut self.part, t_ns.wrapping_sub(self.last_t_ns));
        push_varint(&mut self.part, line.len() as u64);
        let set = if metadata.is_empty() { 0 } else { self.set(metadata) };
        push_varint(&mut self.part, set);
        self.text.extend_from_slice(line.as_bytes());
        self.last_t_ns = t_ns;
        self.part_entries += 1;
    }

    /// The number of a set, counted from 1; only repeats of the one before are found again.
    fn set(&mut self, metadata: &Labels) -> u64 {
        if self.set_count == 0 || self.last_set != *metadata {
            push_slice(&mut self.sets, metadata.as_encoded().as_bytes());
            self.last_set = metadata.clone();
            self.set_count += 1;
        }
        self.set_count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stream_count == 0 && self.parts.is_empty() && self.part_entries == 0
    }

    /// The record of what was collected; empty if that was nothing.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.record.clear();
        if self.is_empty() {
            return &[];
        }
        self.end_part();
        self.record.reserve(self.streams.len() + self.sets.len() + self.parts.len() + self.text.len() + 32);
        self.record.push(ENTRIES);
        push_varint(&mut self.record, self.stream_count);
        self.record.extend_from_slice(&self.streams);
        push_varint(&mut self.record, self.set_count);
        self.record.extend_from_slice(&self.sets);
        self.record.extend_from_slice(&self.parts);
        self.record.push(0);
        self.record.extend_from_slice(&self.text);
        &self.record
    }
}

pub(crate) fn deletion_record(deletion: &Deletion) -> Vec<u8> {
    let mut record = vec![DELETION];
    push_deletion(&mut record, deletion);
    record
}

pub(crate) fn cancel_record(id: u64) -> Vec<u8> {
    let mut record = vec![CANCEL];
    push_varint(&mut record, id);
    record
}

pub(crate) fn push_deletion(out: &mut Vec<u8>, deletion: &Deletion) {
    push_varint(out, deletion.id);
    push_signed(out, deletion.created_ms);
    push_varint(out, deletion.upto_cut);
    push_signed(out, deletion.start_ns);
    push_signed(out, deletion.end_ns);
    push_varint(out, deletion.matchers.len() as u64);
    for matcher in &deletion.matchers {
        out.push(match matcher.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        });
        push_slice(out, matcher.name.as_bytes());
        push_slice(out, matcher.value.as_bytes());
    }
    push_slice(out, deletion.filter.as_bytes());
    push_slice(out, deletion.query.as_bytes());
    out.push(u8::from(deletion.done) | u8::from(deletion.is_final) << 1);
}

pub(crate) fn read_deletion(from: &mut Reader<'_>) -> Result<Deletion, Malformed> {
    let id = from.varint()?;
    let created_ms = from.signed()?;
    let upto_cut = from.varint()?;
    let (start_ns, end_ns) = (from.signed()?, from.signed()?);
    let count = from.count()?;
    let mut matchers = Vec::with_capacity(count);
    for _ in 0..count {
        let op = match from.byte()? {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(Malformed("matcher")),
        };
        let (name, value) = (from.text()?, from.text()?);
        matchers.push(Matcher::new(op, name, value).map_err(|_| Malformed("matcher"))?);
    }
    let (filter, query) = (from.text()?.to_owned(), from.text()?.to_owned());
    let flags = from.byte()?;
    let (done, is_final) = (flags & 1 != 0, flags & 2 != 0);
    Ok(Deletion { id, created_ms, upto_cut, start_ns, end_ns, matchers, filter, query, is_final, done })
}

/// Reads a record. What it said before it turned out malformed was handed out already.
pub(crate) fn read_record(record: &[u8], sink: &mut impl RecordSink) -> Result<(), Malformed> {
    let mut from = Reader(record);
    match from.byte()? {
        ENTRIES => read_entries(from, sink),
        DELETION => {
            sink.deletion(read_deletion(&mut from)?);
            Ok(())
        }
        CANCEL => {
            sink.cancel(from.varint()?);
            Ok(())
        }
        _ => Err(Malformed("kind of record")),
    }
}

fn read_labels(from: &mut Reader<'_>) -> Result<Labels, Malformed> {
    Labels::from_encoded(from.text()?).ok_or(Malformed("labels"))
}

fn read_entries(mut from: Reader<'_>, sink: &mut impl RecordSink) -> Result<(), Malformed> {
    for _ in 0..from.count()? {
        let (id, group) = (from.u32()?, from.u32()?);
        sink.stream(id, group, read_labels(&mut from)?);
    }
    let count = from.count()?;
    let mut sets = Vec::with_capacity(count + 1);
    sets.push(Labels::empty());
    for _ in 0..count {
        sets.push(read_labels(&mut from)?);
    }
    let mut text = Reader(text_of(from)?);
    while let Some(id) = from.u32()?.checked_sub(1) {
        sink.part(id);
        let mut t_ns = 0i64;
        for _ in 0..from.count()? {
            t_ns = t_ns.wrapping_add(from.signed()?);
            let bytes = usize::try_from(from.varint()?).map_err(|_| Malformed("length"))?;
            let line = std::str::from_utf8(text.take(bytes)?).map_err(|_| Malformed("text"))?;
            let set = usize::try_from(from.varint()?).map_err(|_| Malformed("set"))?;
            sink.entry(t_ns, line, sets.get(set).ok_or(Malformed("set"))?);
        }
    }
    Ok(())
}

/// The text behind the parts.
fn text_of(mut from: Reader<'_>) -> Result<&[u8], Malformed> {
    while from.u32()? != 0 {
        for _ in 0..from.count()? {
            from.signed()?;
            from.varint()?;
            from.varint()?;
        }
    }
    Ok(from.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Said(Vec<String>);

    impl RecordSink for Said {
        fn stream(&mut self, id: u32, group: u32, labels: Labels) {
            self.0.push(format!("stream {id} {group} {labels}"));
        }
        fn part(&mut self, id: u32) {
            self.0.push(format!("part {id}"));
        }
        fn entry(&mut self, t_ns: i64, line: &str, metadata: &Labels) {
            self.0.push(format!("{t_ns} {line} {metadata}"));
        }
        fn deletion(&mut self, deletion: Deletion) {
            self.0.push(format!("{deletion:?}"));
        }
        fn cancel(&mut self, deletion: u64) {
            self.0.push(format!("cancel {deletion}"));
        }
    }

    fn said(record: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut said = Said::default();
        read_record(record, &mut said).map(|()| said.0)
    }

    #[test]
    fn a_record_says_what_was_put_into_it() {
        let mut writer = RecordWriter::default();
        assert!(writer.finish().is_empty());
        let labels = Labels::from_pairs([("app", "a")]);
        let set = Labels::from_pairs([("trace", "1")]);
        writer.stream(7, 2, &labels);
        writer.begin_part(7);
        writer.entry(i64::MAX, "one", &Labels::empty());
        writer.entry(i64::MIN, "", &set);
        writer.begin_part(8);
        writer.begin_part(9);
        writer.entry(5, "drei €", &set);
        let expected = [
            "stream 7 2 {app=\"a\"}",
            "part 7",
            "9223372036854775807 one {}",
            "-9223372036854775808  {trace=\"1\"}",
            "part 9",
            "5 drei € {trace=\"1\"}",
        ];
        assert_eq!(said(writer.finish()).unwrap(), expected);
        writer.clear();
        assert!(writer.finish().is_empty());
        assert_eq!(said(&cancel_record(300)).unwrap(), ["cancel 300"]);
    }

    #[test]
    fn a_deletion_reads_back() {
        let deletion = Deletion {
            id: 3,
            created_ms: 1,
            upto_cut: 9,
            start_ns: -5,
            end_ns: i64::MAX,
            matchers: vec![Matcher::new(MatchOp::Regex, "app", "a.*").unwrap()],
            filter: "|= \"x\"".to_owned(),
            query: "{app=~\"a.*\"} |= \"x\"".to_owned(),
            is_final: true,
            done: false,
        };
        assert_eq!(said(&deletion_record(&deletion)).unwrap(), [format!("{deletion:?}")]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = said(&bytes);
        }
    }
}
