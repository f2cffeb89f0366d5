//! `pilothouse backup` and `pilothouse restore`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::Method;
use pilothouse_control::Control;
use pilothouse_disk::backup::{self, Backup, BackupError, Summary};
use pilothouse_disk::files::DirectoryLock;

use super::client::{CommandError, Door, Server, run as run_client};
use super::print;
use crate::backup::{CONTROL, refuse_inside, store_directories};

/// A first backup of a large server takes its time.
const TIMEOUT: Duration = Duration::from_secs(12 * 3600);

const BACKUP_HELP: &str = "\
A server that runs makes the backup itself, so DIR is a directory on its machine. Run again with the same DIR,
it copies only what is new since.

Examples:
  pilothouse backup /backups/pilothouse --token file:/var/lib/pilothouse/root-token
  pilothouse backup /backups/pilothouse --data-dir /var/lib/pilothouse
  pilothouse backup /backups/pilothouse --verify";

const RESTORE_HELP: &str = "\
Examples:
  pilothouse restore /backups/pilothouse --data-dir /var/lib/pilothouse";

#[derive(Debug, Args)]
#[command(after_help = BACKUP_HELP)]
pub(crate) struct BackUp {
    /// Where the backup goes; a further backup into the same directory copies only what is new
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// The data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
    /// Read an existing backup and compare its checksums; nothing is copied
    #[arg(long)]
    verify: bool,
}

#[derive(Debug, Args)]
#[command(after_help = RESTORE_HELP)]
pub(crate) struct Restore {
    #[arg(value_name = "BACKUP")]
    from: PathBuf,
    /// Where the data goes; it must be empty or not there
    #[arg(long, value_name = "DIR", env = "PILOTHOUSE_DATA_DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("{}: {}; is a server running on it? Then leave --data-dir out", .0.display(), .1)]
    InUse(PathBuf, String),
    #[error("{} is no data directory", .0.display())]
    NoData(PathBuf),
}

pub(crate) fn back_up(said: &BackUp) -> ExitCode {
    if said.verify {
        let whole =
            backup::verify(&said.to).map(|s| format!("{} is whole: {}", said.to.display(), all_of(&s)));
        return end(whole.map_err(Failed::from));
    }
    match &said.data_dir {
        Some(data_dir) => end(offline(data_dir, &said.to).map(|s| copied(&s))),
        None => run_client(ask(said)),
    }
}

pub(crate) fn restore(said: &Restore) -> ExitCode {
    let done = backup::restore(&said.from, &said.data_dir).map_err(Failed::from);
    end(done.map(|s| format!("restored {} into {}", all_of(&s), said.data_dir.display())))
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
fn offline(data_dir: &Path, to: &Path) -> Result<Summary, Failed> {
    let in_use = |path: &Path, e: &dyn std::fmt::Display| Failed::InUse(path.to_owned(), e.to_string());
    refuse_inside(data_dir, to)?;
    let path = data_dir.join(CONTROL);
    if !path.is_file() {
        return Err(Failed::NoData(data_dir.to_owned()));
    }
    let control =
        Control::open(&path, pilothouse_control::Options::default()).map_err(|e| in_use(&path, &e))?;
    let mut locks = Vec::new();
    for (_, directory) in store_directories(data_dir) {
        locks.push(DirectoryLock::acquire(&directory).map_err(|e| in_use(&directory, &e))?);
    }
    let mut backup = Backup::begin(data_dir, to)?;
    control.standing_still(|| backup.add_all(data_dir)).map_err(BackupError::Disk)??;
    Ok(backup.finish()?)
}

async fn ask(said: &BackUp) -> Result<(), CommandError> {
    let to = std::path::absolute(&said.to)?;
    let dir =
        form_urlencoded::Serializer::new(String::new()).append_pair("dir", &to.to_string_lossy()).finish();
    let server = said.server.connect_for(TIMEOUT)?;
    let answer = server.send(Door::Data, Method::POST, &format!("/-/backup?{dir}"), None).await?;
    print(&format!("{}\n", String::from_utf8_lossy(&answer)));
    Ok(())
}
