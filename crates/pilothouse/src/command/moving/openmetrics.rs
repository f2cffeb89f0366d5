//! Files of OpenMetrics text.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;
use pilothouse_disk::files::write_from;
use pilothouse_model::limits::{MOVE_PUSH_BYTES, MOVE_TEXT_BYTES, MOVE_TEXT_LINE_BYTES};
use pilothouse_model::sample::is_stale;
use pilothouse_model::{Labels, SampleColumns};
use pilothouse_wire::exposition::{push_open_metrics_sample, push_unknown_family};

use super::super::client::CommandError;
use super::ledger::{Ledger, Place};
use super::{Carriage, Counts, settle};

const END: &[u8] = b"# EOF";

/// A file being written.
#[derive(Debug)]
pub(super) struct TextFile {
    path: PathBuf,
    /// Bytes that are in the file.
    length: u64,
    text: String,
    counts: Counts,
}

impl TextFile {
    /// From a place on, as [`begin`] tells it.
    pub(super) fn open(path: &Path, length: u64) -> Self {
        Self { path: path.to_owned(), length, text: String::new(), counts: Counts::default() }
    }

    pub(super) fn begin(&mut self, name: &str) {
        push_unknown_family(&mut self.text, name);
    }

    pub(super) fn take(&mut self, labels: &Labels, samples: &SampleColumns) -> Result<u64, CommandError> {
        let mut taken = 0;
        let floats = samples.times_ms.iter().zip(&samples.values);
        for (t_ms, value) in floats.filter(|(_, value)| !is_stale(**value)) {
            push_open_metrics_sample(&mut self.text, labels, *t_ms, *value);
            taken += 1;
            if self.text.len() >= MOVE_TEXT_BYTES {
                self.flush()?;
            }
        }
        self.counts.left_out += samples.histograms.len() as u64;
        Ok(taken)
    }

    /// Gives the file's length.
    pub(super) fn flush(&mut self) -> Result<u64, CommandError> {
        append(&self.path, &mut self.length, &mut self.text)?;
        Ok(self.length)
    }

    pub(super) fn end(&mut self) -> Result<Counts, CommandError> {
        self.text.push_str("# EOF\n");
        self.flush()?;
        Ok(std::mem::take(&mut self.counts))
    }
}

/// From which place on a file is written; says in the ledger that it is, before it is.
pub(super) fn begin(path: &Path, ledger: &mut Ledger) -> Result<u64, CommandError> {
    let start = start_of(path, ledger.reached_bytes())?;
    ledger.begin()?;
    Ok(start)
}

/// A file is not there yet, or is gone on with and has at least the bytes that it is said to have.
fn start_of(path: &Path, reached_bytes: Option<u64>) -> Result<u64, CommandError> {
    let there = path.metadata().map(|m| m.len()).ok();
    let shown = path.display();
    match (reached_bytes, there) {
        (None, Some(_)) => {
            Err(CommandError::Usage(format!("{shown} is there already; remove it or name another")))
        }
        (Some(reached), there) if there.unwrap_or(0) < reached => Err(CommandError::Usage(format!(
            "{shown} is shorter than its state says; remove both and begin anew"
        ))),
        _ => Ok(reached_bytes.unwrap_or(0)),
    }
}

/// Writes a text behind what is there, durably, and empties it.
pub(super) fn append(path: &Path, length: &mut u64, text: &mut String) -> Result<(), CommandError> {
    if !text.is_empty() {
        write_from(path, *length, text.as_bytes()).map_err(|e| CommandError::Usage(e.to_string()))?;
        *length += text.len() as u64;
        text.clear();
    }
    Ok(())
}

/// From a file to this server, some lines at a time.
pub(super) async fn import(path: &Path, carriage: &Carriage) -> Result<(), CommandError> {
    let mut ledger = carriage.ledger(&format!("samples from {}", path.display()), Some(path))?;
    let here = carriage.here()?;
    let mut offset = ledger.place().map_or(0, |place| place.next);
    let mut items = ledger.place().map_or(0, |place| place.items);
    let work = async {
        let mut file = File::open(path)?;
        let whole = file.metadata()?.len();
        file.seek(SeekFrom::Start(offset.unsigned_abs()))?;
        let (mut lines, mut counts) = (BufReader::new(file), Counts::default());
        while let Some(mut piece) = next_piece(&mut lines)? {
            offset += piece.text.len() as i64;
            items += piece.samples;
            let end: &[u8] = if piece.text.ends_with(b"\n") { b"# EOF\n" } else { b"\n# EOF\n" };
            piece.text.extend_from_slice(end);
            let headers = [("content-type", "application/openmetrics-text; version=1.0.0")];
            let path = "/api/v1/import/prometheus";
            let answer = here.call(Method::POST, path, &headers, Bytes::from(piece.text)).await?;
            counts.pushed(&here, &answer, carriage.skip_refused)?;
            let place = Place { next: offset, items, ..Place::default() };
            let done = offset.unsigned_abs();
            ledger.advance(Some(place), Some((done, whole)), || {
                format!("{items} samples, byte {done} of {whole}")
            })?;
        }
        Ok(counts)
    };
    let done = work.await;
    settle(done, ledger, "samples")
}

#[derive(Debug, Default)]
struct Piece {
    text: Vec<u8>,
    samples: u64,
}

/// The next whole lines, or `None` at the end mark or the end of the file.
fn next_piece(lines: &mut BufReader<File>) -> Result<Option<Piece>, CommandError> {
    let mut piece = Piece::default();
    while piece.text.len() < MOVE_PUSH_BYTES {
        let start = piece.text.len();
        let read = lines.by_ref().take(MOVE_TEXT_LINE_BYTES).read_until(b'\n', &mut piece.text)?;
        if read as u64 == MOVE_TEXT_LINE_BYTES {
            return Err(CommandError::Usage(format!("a line is longer than {MOVE_TEXT_LINE_BYTES} bytes")));
        }
        let line = piece.text.get(start..).unwrap_or_default().trim_ascii_end();
        if read == 0 {
            break;
        }
        if line == END {
            piece.text.truncate(start);
            lines.seek(SeekFrom::End(0))?;
            break;
        }
        piece.samples += u64::from(!line.is_empty() && !line.starts_with(b"#"));
    }
    Ok((!piece.text.is_empty()).then_some(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_at_lines_and_ends_at_its_mark() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        let line = "m{a=\"b\"} 1 2.000\n";
        let many = MOVE_PUSH_BYTES / line.len() + 10;
        let text = format!("# TYPE m unknown\n{}# EOF\nm 3 4\n", line.repeat(many));
        std::fs::write(&path, &text).unwrap();
        let mut lines = BufReader::new(File::open(&path).unwrap());
        let mut pieces = Vec::new();
        while let Some(piece) = next_piece(&mut lines).unwrap() {
            assert!(piece.text.ends_with(b"\n") && piece.text.len() < MOVE_PUSH_BYTES + line.len());
            pieces.push(piece.samples);
        }
        assert_eq!((pieces.len(), pieces.iter().sum::<u64>()), (2, many as u64));
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over_but_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        assert_eq!(start_of(&path, Some(0)).unwrap(), 0);
        assert!(start_of(&path, Some(3)).is_err());
        std::fs::write(&path, "ab\nhalf a li").unwrap();
        assert!(start_of(&path, None).is_err());
        let mut file = TextFile::open(&path, start_of(&path, Some(3)).unwrap());
        let mut samples = SampleColumns::default();
        samples.push_float(-1_500, 0.25);
        samples.push_float(2, pilothouse_model::sample::stale_nan());
        file.begin("m");
        assert_eq!(file.take(&Labels::from_pairs([("__name__", "m")]), &samples).unwrap(), 1);
        file.end().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "ab\n# TYPE m unknown\nm 0.25 -1.500\n# EOF\n");
    }
}
