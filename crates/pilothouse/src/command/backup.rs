//! `pilothouse backup` and `pilothouse restore`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::Method;
use pilothouse_control::Control;
use pilothouse_disk::backup::{self, Backup, BackupError, Place, Progress, Summary};
use pilothouse_disk::files::DirectoryLock;
use pilothouse_net::Secret;
use serde_json::Value;

use super::client::{CommandError, Connection, Door, Server, json, run as run_client};
use super::print;
use super::progress::{BETWEEN_LOOKS, Loudness, Meter};
use crate::backup::{CONTROL, place, refuse_inside, store_directories};
use crate::bucket::{Address, BucketOptions};

/// A first backup of a large server takes its time.
const TIMEOUT: Duration = Duration::from_secs(12 * 3600);

const BACKUP_HELP: &str = "\
A server that runs makes the backup itself, so TO is a directory on its machine, or a bucket that its own
configuration or environment has the keys of. Run again with the same TO, it copies only what is new since.

Examples:
  pilothouse backup /backups/pilothouse --token file:/var/lib/pilothouse/root-token
  pilothouse backup s3://backups/pilothouse --token file:/var/lib/pilothouse/root-token
  pilothouse backup /backups/pilothouse --data-dir /var/lib/pilothouse
  pilothouse backup /backups/pilothouse --verify";

const RESTORE_HELP: &str = "\
Examples:
  pilothouse restore /backups/pilothouse --data-dir /var/lib/pilothouse
  pilothouse restore s3://backups/pilothouse --s3-endpoint-url https://s3.fr-par.scw.cloud --data-dir /var/lib/pilothouse";

#[derive(Debug, Args)]
#[command(after_help = BACKUP_HELP)]
pub(crate) struct BackUp {
    /// Where the backup goes, a directory or s3://BUCKET/PREFIX; a further backup to the same place copies
    /// only what is new
    #[arg(value_name = "TO")]
    to: String,
    /// The data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
    /// Read an existing backup and compare its checksums; nothing is copied
    #[arg(long)]
    verify: bool,
    /// Link days that are over instead of copying them, where TO is on the same file system: they take no
    /// room, and a block of the disk that is damaged is damaged in both
    #[arg(long)]
    links: bool,
    #[command(flatten)]
    bucket: BucketFlags,
    #[command(flatten)]
    loudness: Loudness,
}

#[derive(Debug, Args)]
#[command(after_help = RESTORE_HELP)]
pub(crate) struct Restore {
    /// A directory, or s3://BUCKET/PREFIX
    #[arg(value_name = "BACKUP")]
    from: String,
    /// Where the data goes; it must be empty or not there
    #[arg(long, value_name = "DIR", env = "PILOTHOUSE_DATA_DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    bucket: BucketFlags,
    #[command(flatten)]
    loudness: Loudness,
}

/// For buckets that this command calls itself. Keys come from the environment, where no list of
/// processes shows them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Bucket")]
struct BucketFlags {
    /// Address of the bucket's server; unsaid, AWS_ENDPOINT_URL. Keys are read from AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY
    #[arg(long, value_name = "URL")]
    s3_endpoint_url: Option<String>,
    /// Region of the bucket; unsaid, AWS_REGION
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,
    /// The bucket stands in the name of the host and not in the path
    #[arg(long)]
    s3_host_style: bool,
    /// Certificates that the bucket's server may be signed by, in PEM; unsaid, AWS_CA_BUNDLE
    #[arg(long, value_name = "FILE")]
    s3_ca_file: Option<PathBuf>,
}

impl BucketFlags {
    fn options(&self) -> BucketOptions {
        let said = BucketOptions {
            endpoint_url: self.s3_endpoint_url.clone(),
            region: self.s3_region.clone(),
            access_key_id: None,
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            path_style: !self.s3_host_style,
            ca_file: self.s3_ca_file.clone(),
        };
        said.or_environment()
    }

    fn place(&self, text: &str, links: bool) -> Result<Box<dyn Place>, BackupError> {
        place(text, links, &self.options())
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("{}: {}; is a server running on it? Then leave --data-dir out", .0.display(), .1)]
    InUse(PathBuf, String),
    #[error("{} is no data directory", .0.display())]
    NoData(PathBuf),
    #[error(
        "{damaged} of the {files} files in {to} are damaged; take them away, and the next backup to it copies what the \
         data still has of them"
    )]
    Damaged { to: String, damaged: u64, files: u64 },
}

pub(crate) fn back_up(said: &BackUp) -> ExitCode {
    if said.verify {
        return end(verify(said).map(|s| format!("{} is whole: {}", said.to, all_of(&s))));
    }
    match &said.data_dir {
        Some(data_dir) => end(offline(data_dir, said).map(|s| copied(&s))),
        None => run_client(ask(said)),
    }
}

fn verify(said: &BackUp) -> Result<Summary, Failed> {
    let mut place = said.bucket.place(&said.to, false)?;
    let progress = Progress::default();
    let verified = Meter::new(&said.loudness).during(&progress, || backup::verify(&mut *place, &progress));
    let (summary, damaged) = verified?;
    damaged.iter().for_each(|error| eprintln!("pilothouse: {error}"));
    match damaged.len() as u64 {
        0 => Ok(summary),
        damaged => Err(Failed::Damaged { to: said.to.clone(), damaged, files: summary.files }),
    }
}

pub(crate) fn restore(said: &Restore) -> ExitCode {
    let done = put_back(said);
    end(done.map(|s| format!("restored {} into {}", all_of(&s), said.data_dir.display())))
}

fn put_back(said: &Restore) -> Result<Summary, Failed> {
    let mut place = said.bucket.place(&said.from, false)?;
    let progress = Progress::default();
    let work = || backup::restore(&mut *place, &said.data_dir, &progress);
    Ok(Meter::new(&said.loudness).during(&progress, work)?)
}

fn end(done: Result<String, Failed>) -> ExitCode {
    match done {
        Ok(text) => {
            print(&format!("{text}\n"));
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("pilothouse: {e}");
            ExitCode::FAILURE
        }
    }
}

fn all_of(summary: &Summary) -> String {
    format!("{} files, {} bytes", summary.files, summary.bytes)
}

fn copied(summary: &Summary) -> String {
    let Summary { copied_files, copied_bytes, .. } = summary;
    format!("backed up {}; copied {copied_files} files, {copied_bytes} bytes", all_of(summary))
}

/// With everything locked, so that no server starts meanwhile.
fn offline(data_dir: &Path, said: &BackUp) -> Result<Summary, Failed> {
    let in_use = |path: &Path, e: &dyn std::fmt::Display| Failed::InUse(path.to_owned(), e.to_string());
    if Address::parse(&said.to).is_none() {
        refuse_inside(data_dir, Path::new(&said.to))?;
    }
    let path = data_dir.join(CONTROL);
    if !path.is_file() {
        return Err(Failed::NoData(data_dir.to_owned()));
    }
    // The directory itself first: whoever holds it may be mending what is in it.
    let mut locks = vec![DirectoryLock::acquire(data_dir).map_err(|e| in_use(data_dir, &e))?];
    let control =
        Control::open(&path, pilothouse_control::Options::default()).map_err(|e| in_use(&path, &e))?;
    for (_, directory) in store_directories(data_dir) {
        locks.push(DirectoryLock::acquire(&directory).map_err(|e| in_use(&directory, &e))?);
    }
    let mut place = said.bucket.place(&said.to, said.links)?;
    let progress = Arc::<Progress>::default();
    Meter::new(&said.loudness).during(&progress, || {
        let backup = Backup::begin(data_dir, &mut *place, Arc::clone(&progress))?;
        let mut backup = backup.with_nobody_waiting();
        backup.add_closed(data_dir)?;
        control.standing_still(|| backup.add_all(data_dir)).map_err(BackupError::Disk)??;
        Ok(backup.finish()?)
    })
}

async fn ask(said: &BackUp) -> Result<(), CommandError> {
    let to = match Address::parse(&said.to) {
        Some(_) => said.to.clone(),
        None => std::path::absolute(&said.to)?.to_string_lossy().into_owned(),
    };
    let links = said.links.to_string();
    let query = [("to", to.as_str()), ("links", links.as_str())];
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let server = said.server.connect_for(TIMEOUT)?;
    let path = format!("/-/backup?{query}");
    let made = server.send(Door::Data, Method::POST, &path, None);
    let mut made = std::pin::pin!(made);
    let mut meter = Meter::new(&said.loudness);
    let answer = loop {
        tokio::select! {
            answer = &mut made => break answer?,
            () = tokio::time::sleep(BETWEEN_LOOKS) => look(&server, &mut meter).await,
        }
    };
    drop(meter);
    let figure = |name: &str| json(&answer).ok()?.get("data")?.get(name)?.as_u64();
    let summary = Summary {
        files: figure("files").unwrap_or_default(),
        bytes: figure("bytes").unwrap_or_default(),
        copied_files: figure("copiedFiles").unwrap_or_default(),
        copied_bytes: figure("copiedBytes").unwrap_or_default(),
    };
    print(&format!("{}\n", copied(&summary)));
    Ok(())
}

/// How far a server is that does not tell is not worth an error.
async fn look(server: &Connection, meter: &mut Meter) {
    let Ok(answer) = server.get(Door::Data, "/-/backup", &[]).await else { return };
    let Ok(answer) = json(&answer) else { return };
    let figure = |name: &str| answer.get("data")?.get(name).and_then(Value::as_u64);
    if let (Some(done), Some(whole)) = (figure("doneBytes"), figure("bytes")) {
        meter.show_bytes(done, whole);
    }
}
