//! Directories of Parquet files: a row a sample or a line, labels and structured metadata as maps.
//!
//! A Parquet file is none before its end is written, so an export is cut into files of bounded
//! size. One that is not finished has another name, and a run that goes on begins it anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::iter::repeat_n;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use pilothouse_disk::files;
use pilothouse_model::limits::{PARQUET_FILE_ROWS, PARQUET_GROUP_BYTES, PARQUET_GROUP_ROWS};
use pilothouse_model::sample::is_stale;
use pilothouse_model::{Labels, SampleColumns};

use super::super::client::CommandError;

/// Values handed to a column at once.
const BATCH: usize = 4_096;

const SAMPLES: &str = "message samples {
    required binary name (STRING);
    required group labels (MAP) {
        repeated group key_value { required binary key (STRING); required binary value (STRING); }
    }
    required int64 time (TIMESTAMP(MILLIS, true));
    required double value;
}";

const LINES: &str = "message lines {
    required int64 time (TIMESTAMP(NANOS, true));
    required binary line (STRING);
    required group labels (MAP) {
        repeated group key_value { required binary key (STRING); required binary value (STRING); }
    }
    required group metadata (MAP) {
        repeated group key_value { required binary key (STRING); required binary value (STRING); }
    }
}";

/// Rows that wait to be written together.
pub(super) trait Rows: Default {
    const SCHEMA: &'static str;

    fn rows(&self) -> usize;

    /// What they take in memory, about.
    fn bytes(&self) -> usize;

    /// Writes all columns, in the order of the schema.
    fn write(&self, group: &mut Group<'_>) -> Result<()>;
}

pub(super) type Group<'a> = SerializedRowGroupWriter<'a, File>;

/// The files of one export.
#[derive(Debug)]
pub(super) struct Files<R> {
    directory: PathBuf,
    /// Files that are finished.
    finished: u64,
    /// Rows after which one is.
    file_rows: usize,
    open: Option<Open>,
    waiting: R,
}

struct Open {
    path: PathBuf,
    writer: SerializedFileWriter<File>,
    rows: usize,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("path", &self.path).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<R: Rows> Files<R> {
    /// A directory that is new or empty, or that an earlier run left with so many finished files.
    pub(super) fn open(directory: &Path, finished: Option<u64>) -> std::result::Result<Self, CommandError> {
        let shown = directory.display();
        files::create_directory(directory).map_err(|e| CommandError::Usage(e.to_string()))?;
        if finished.is_none() && fs::read_dir(directory)?.next().is_some() {
            return Err(CommandError::Usage(format!("{shown} is not empty; empty it or name another")));
        }
        let finished = finished.unwrap_or(0);
        let files = Self {
            directory: directory.to_owned(),
            finished,
            file_rows: PARQUET_FILE_ROWS,
            open: None,
            waiting: R::default(),
        };
        match finished == 0 || files.path(finished).is_file() {
            true => Ok(files),
            false => Err(CommandError::Usage(format!(
                "{shown} lacks files that its state tells of; remove both and begin anew"
            ))),
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("part-{number:06}.parquet"))
    }

    pub(super) fn waiting(&mut self) -> &mut R {
        &mut self.waiting
    }

    /// To be called when rows were added: writes them where there are enough.
    pub(super) fn added(&mut self) -> std::result::Result<(), CommandError> {
        match self.waiting.rows() >= PARQUET_GROUP_ROWS || self.waiting.bytes() >= PARQUET_GROUP_BYTES {
            true => self.write_group(),
            false => Ok(()),
        }
    }

    /// At a place where a run may go on: the number of finished files, if all rows are in them.
    pub(super) fn settle(&mut self) -> std::result::Result<Option<u64>, CommandError> {
        let rows = self.open.as_ref().map_or(0, |open| open.rows) + self.waiting.rows();
        if rows >= self.file_rows {
            self.finish_file()?;
        }
        Ok((self.open.is_none() && self.waiting.rows() == 0).then_some(self.finished))
    }

    /// Finishes the last file; there is one at least, so that somebody who reads the directory
    /// finds the columns.
    pub(super) fn end(&mut self) -> std::result::Result<(), CommandError> {
        match self.open.is_some() || self.waiting.rows() > 0 || self.finished == 0 {
            true => self.finish_file(),
            false => Ok(()),
        }
    }

    fn write_group(&mut self) -> std::result::Result<(), CommandError> {
        let rows = std::mem::take(&mut self.waiting);
        let open = self.open_file()?;
        let written = open.writer.next_row_group().and_then(|mut group| {
            rows.write(&mut group)?;
            group.close()
        });
        written.map_err(|e| failed(&open.path, e))?;
        open.rows += rows.rows();
        Ok(())
    }

    fn open_file(&mut self) -> std::result::Result<&mut Open, CommandError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let path = self.path(self.finished + 1);
                let file = File::create(files::unfinished_path(&path))?;
                let writer = writer(R::SCHEMA, file).map_err(|e| failed(&path, e))?;
                Open { path, writer, rows: 0 }
            }
        };
        Ok(self.open.insert(open))
    }

    fn finish_file(&mut self) -> std::result::Result<(), CommandError> {
        match self.waiting.rows() {
            0 => drop(self.open_file()?),
            _ => self.write_group()?,
        }
        let Some(Open { path, writer, .. }) = self.open.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(|e| failed(&path, e))?;
        file.sync_all()?;
        let renamed = files::rename_durably(&files::unfinished_path(&path), &path);
        renamed.map_err(|e| CommandError::Usage(e.to_string()))?;
        self.finished += 1;
        Ok(())
    }
}

fn writer(schema: &str, file: File) -> Result<SerializedFileWriter<File>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("pilothouse ", env!("CARGO_PKG_VERSION")).to_owned());
    SerializedFileWriter::new(file, Arc::new(parse_message_type(schema)?), Arc::new(properties.build()))
}

fn failed(path: &Path, error: ParquetError) -> CommandError {
    CommandError::Io(io::Error::other(format!("{}: {error}", path.display())))
}

/// Samples, those of one series behind each other.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Each with the number of its samples.
    series: Vec<(Labels, usize)>,
    times_ms: Vec<i64>,
    values: Vec<f64>,
}

impl Samples {
    /// Gives how many samples were taken: all floats that are no stale markers.
    pub(super) fn push(&mut self, labels: &Labels, samples: &SampleColumns) -> u64 {
        let before = self.values.len();
        let floats = samples.times_ms.iter().zip(&samples.values);
        for (t_ms, value) in floats.filter(|(_, value)| !is_stale(**value)) {
            self.times_ms.push(*t_ms);
            self.values.push(*value);
        }
        let taken = self.values.len() - before;
        if taken > 0 {
            self.series.push((labels.clone(), taken));
        }
        taken as u64
    }
}

impl Rows for Samples {
    const SCHEMA: &'static str = SAMPLES;

    fn rows(&self) -> usize {
        self.values.len()
    }

    fn bytes(&self) -> usize {
        let labels: usize = self.series.iter().map(|(labels, _)| labels.as_encoded().len() + 32).sum();
        self.values.len() * 16 + labels
    }

    fn write(&self, group: &mut Group<'_>) -> Result<()> {
        let names = self.series.iter().flat_map(|(labels, rows)| {
            repeat_n(ByteArray::from(labels.metric_name().unwrap_or_default()), *rows)
        });
        write_texts(group, names)?;
        let sides: [OfPair; 2] = [|(name, _)| name.into(), |(_, value)| value.into()];
        for side in sides {
            let maps: Vec<(Vec<ByteArray>, usize)> = self
                .series
                .iter()
                .map(|(labels, rows)| (labels.without_name().iter().map(side).collect(), *rows))
                .collect();
            write_maps(group, maps.iter().flat_map(|(map, rows)| repeat_n(map.as_slice(), *rows)))?;
        }
        write_numbers::<Int64Type>(group, &self.times_ms)?;
        write_numbers::<DoubleType>(group, &self.values)
    }
}

type Pairs = BTreeMap<String, String>;

/// Lines in order of time.
#[derive(Debug, Default)]
pub(super) struct Lines {
    streams: Vec<Pairs>,
    lines: Vec<Line>,
    bytes: usize,
}

#[derive(Debug)]
struct Line {
    t_ns: i64,
    text: ByteArray,
    metadata: Pairs,
    stream: usize,
}

impl Lines {
    /// Adds a stream, which following lines belong to.
    pub(super) fn begin_stream(&mut self, labels: &Pairs) {
        self.bytes += bytes_of(labels);
        self.streams.push(labels.clone());
    }

    pub(super) fn push(&mut self, t_ns: i64, line: &str, metadata: &Pairs) {
        self.bytes += line.len() + bytes_of(metadata) + 64;
        let stream = self.streams.len().saturating_sub(1);
        self.lines.push(Line { t_ns, text: line.into(), metadata: metadata.clone(), stream });
    }
}

fn bytes_of(pairs: &Pairs) -> usize {
    pairs.iter().map(|(name, value)| name.len() + value.len() + 48).sum()
}

impl Rows for Lines {
    const SCHEMA: &'static str = LINES;

    fn rows(&self) -> usize {
        self.lines.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn write(&self, group: &mut Group<'_>) -> Result<()> {
        let mut order: Vec<&Line> = self.lines.iter().collect();
        order.sort_by_key(|line| line.t_ns);
        let times: Vec<i64> = order.iter().map(|line| line.t_ns).collect();
        write_numbers::<Int64Type>(group, &times)?;
        write_texts(group, order.iter().map(|line| line.text.clone()))?;
        let sides: [OfPairs; 2] = [
            |pairs| pairs.keys().map(|name| name.as_str().into()).collect(),
            |pairs| pairs.values().map(|value| value.as_str().into()).collect(),
        ];
        for side in sides {
            let streams: Vec<Vec<ByteArray>> = self.streams.iter().map(side).collect();
            let of = |line: &&Line| streams.get(line.stream).map_or(&[][..], Vec::as_slice);
            write_maps(group, order.iter().map(of))?;
        }
        for side in sides {
            let all: Vec<Vec<ByteArray>> = order.iter().map(|line| side(&line.metadata)).collect();
            write_maps(group, all.iter().map(Vec::as_slice))?;
        }
        Ok(())
    }
}

/// The names or the values of maps, which are columns of their own.
type OfPair = fn((&str, &str)) -> ByteArray;
type OfPairs = fn(&Pairs) -> Vec<ByteArray>;

fn next_column<'a>(group: &'a mut Group<'_>) -> Result<SerializedColumnWriter<'a>> {
    group.next_column()?.ok_or_else(|| ParquetError::General("a column too many".to_owned()))
}

fn write_numbers<T: DataType>(group: &mut Group<'_>, values: &[T::T]) -> Result<()> {
    let mut column = next_column(group)?;
    for batch in values.chunks(BATCH) {
        column.typed::<T>().write_batch(batch, None, None)?;
    }
    column.close()
}

fn write_texts(group: &mut Group<'_>, mut texts: impl Iterator<Item = ByteArray>) -> Result<()> {
    let mut column = next_column(group)?;
    loop {
        let batch: Vec<ByteArray> = texts.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return column.close();
        }
        column.typed::<ByteArrayType>().write_batch(&batch, None, None)?;
    }
}

/// Names or values of a column of maps, as Dremel writes them: a level of 0 stands for an empty
/// map, and a repetition for another pair of the same row.
fn write_maps<'m>(group: &mut Group<'_>, maps: impl Iterator<Item = &'m [ByteArray]>) -> Result<()> {
    let mut column = next_column(group)?;
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let mut write = |values: &mut Vec<ByteArray>, definitions: &mut Vec<i16>, repetitions: &mut Vec<i16>| {
        let written =
            column.typed::<ByteArrayType>().write_batch(values, Some(definitions), Some(repetitions));
        values.clear();
        definitions.clear();
        repetitions.clear();
        written.map(drop)
    };
    for map in maps {
        definitions.extend(repeat_n(i16::from(!map.is_empty()), map.len().max(1)));
        repetitions.push(0);
        repetitions.extend(repeat_n(1, map.len().saturating_sub(1)));
        values.extend_from_slice(map);
        if definitions.len() >= BATCH {
            write(&mut values, &mut definitions, &mut repetitions)?;
        }
    }
    write(&mut values, &mut definitions, &mut repetitions)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Row;

    use super::*;

    fn read(path: &Path) -> Vec<Row> {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
    }

    fn names(directory: &Path) -> Vec<String> {
        files::file_names(directory).unwrap()
    }

    #[test]
    fn samples_are_read_back_with_their_labels() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut files = Files::<Samples>::open(&path, None).unwrap();
        let mut samples = SampleColumns::default();
        samples.push_float(1_500, 0.25);
        samples.push_float(2_000, pilothouse_model::sample::stale_nan());
        samples.push_float(3_000, f64::NEG_INFINITY);
        let labels = [
            Labels::from_pairs([("__name__", "up"), ("job", "a"), ("zone", "ä \"\n")]),
            Labels::from_pairs([("__name__", "bare")]),
        ];
        for labels in &labels {
            assert_eq!(files.waiting().push(labels, &samples), 2);
            files.added().unwrap();
        }
        assert_eq!(files.settle().unwrap(), None, "a file that is not full waits for more");
        files.end().unwrap();
        assert_eq!(names(&path), ["part-000001.parquet"]);
        let rows: Vec<String> = read(&path.join("part-000001.parquet")).iter().map(Row::to_string).collect();
        let up = r#"{name: "up", labels: {"job" -> "a", "zone" -> "ä "NEWLINE"}, time: 1970-01-01 "#;
        let up = up.replace("NEWLINE", "\n");
        let bare = r#"{name: "bare", labels: {}, time: 1970-01-01 "#;
        let (first, second) = ("00:00:01.500 +00:00, value: 0.25}", "00:00:03.000 +00:00, value: -inf}");
        assert_eq!(
            rows,
            [[up.as_str(), first], [up.as_str(), second], [bare, first], [bare, second]]
                .map(|row| row.concat())
        );
    }

    #[test]
    fn lines_are_read_back_in_order_of_time() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::<Lines>::open(directory.path(), None).unwrap();
        let pairs = |name: &str, value: &str| Pairs::from([(name.to_owned(), value.to_owned())]);
        for (app, times) in [("web", [3, 1]), ("db", [2, 4])] {
            files.waiting().begin_stream(&pairs("app", app));
            for t in times {
                let metadata = if t == 4 { pairs("trace", "t1") } else { Pairs::new() };
                files.waiting().push(t * 1_000_000_000, &format!("at {t}"), &metadata);
            }
        }
        files.end().unwrap();
        let rows = read(&directory.path().join("part-000001.parquet"));
        let shown: Vec<String> = rows.iter().map(Row::to_string).collect();
        for (row, [line, app]) in
            shown.iter().zip([["at 1", "web"], ["at 2", "db"], ["at 3", "web"], ["at 4", "db"]])
        {
            assert!(row.contains(line) && row.contains(app), "{row}");
            assert_eq!(row.contains("t1"), line == "at 4", "{row}");
        }
        assert_eq!(shown.len(), 4);
    }

    #[test]
    fn full_files_are_finished_and_an_unfinished_one_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::<Samples>::open(directory.path(), None).unwrap();
        files.file_rows = 1_000;
        let mut samples = SampleColumns::default();
        (0..600).for_each(|t| samples.push_float(t, 1.0));
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "b")]);
        let push = |files: &mut Files<Samples>| {
            files.waiting().push(&labels, &samples);
            files.added().unwrap();
            files.settle().unwrap()
        };
        assert_eq!([push(&mut files), push(&mut files), push(&mut files)], [None, Some(1), None]);
        // As if the rows were too many to wait.
        files.write_group().unwrap();
        assert_eq!(names(directory.path()), ["part-000001.parquet", "part-000002.parquet.tmp"]);
        assert_eq!(read(&directory.path().join("part-000001.parquet")).len(), 1_200);
        drop(files);
        assert!(Files::<Samples>::open(directory.path(), None).is_err());
        assert!(Files::<Samples>::open(directory.path(), Some(2)).is_err());
        let mut files = Files::<Samples>::open(directory.path(), Some(1)).unwrap();
        assert_eq!(push(&mut files), None);
        files.end().unwrap();
        assert_eq!(names(directory.path()), ["part-000001.parquet", "part-000002.parquet"]);
        assert_eq!(read(&directory.path().join("part-000002.parquet")).len(), 600);
    }

    #[test]
    fn an_export_of_nothing_still_has_its_columns() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::<Lines>::open(directory.path(), None).unwrap();
        files.end().unwrap();
        assert_eq!(read(&directory.path().join("part-000001.parquet")).len(), 0);
    }
}
