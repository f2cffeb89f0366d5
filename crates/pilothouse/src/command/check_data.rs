//! `pilothouse check-data`: looking a stopped data directory over.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use pilothouse_control::{Salvaged, SourceKind};
use pilothouse_disk::backup::{self, BackupError, Progress};
use pilothouse_disk::check::Checked;
use pilothouse_disk::files::{self, DirectoryLock};
use pilothouse_disk::{Error, space};

use super::print;
use super::progress::{Loudness, Meter};
use crate::backup::{CONTROL, store_directories};

const HELP: &str = "\
Every page, block, record and file is read and compared with its checksum. Nothing is changed unless --repair is
given; it sets what cannot be read aside under another name and writes anew what is around it. Of control.redb it
takes over all rows that can be read, and what is missing from the copy beside it; where a backup is at hand,
restoring it is better.

Examples:
  pilothouse check-data /var/lib/pilothouse
  pilothouse check-data /var/lib/pilothouse --repair";

/// Beside the control plane's file.
const CONTROL_COPY: &str = "control.copy";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CheckData {
    /// The data directory of a server that does not run
    #[arg(value_name = "DIR")]
    data_dir: PathBuf,
    /// Cut out what is damaged
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    loudness: Loudness,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{} is no data directory", .0.display())]
    NoData(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Store(PathBuf, String),
    #[error("{} is in use by another process; stop the server first", .0.display())]
    InUse(PathBuf),
    #[error(transparent)]
    Lock(Error),
    #[error(transparent)]
    Unfinished(#[from] BackupError),
}

pub(crate) fn run(said: &CheckData) -> ExitCode {
    match begin(said).and_then(|lock| Ok((lock, look(said)?))) {
        // Held until all is said.
        Ok((_lock, checked)) => {
            let left = if said.repair { look_again(said) } else { checked.findings.len() };
            tell(&checked, said.repair, left)
        }
        Err(e) => {
            eprintln!("pilothouse: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses what is no data directory, and one that another process works on if it is to be repaired.
fn begin(said: &CheckData) -> Result<Option<DirectoryLock>, Failed> {
    let data_dir = &said.data_dir;
    backup::refuse_unfinished(data_dir)?;
    if !has_data(data_dir) {
        return Err(Failed::NoData(data_dir.clone()));
    }
    let lock = said.repair.then(|| DirectoryLock::acquire(data_dir)).transpose();
    lock.map_err(|error| match error {
        Error::Locked { .. } => Failed::InUse(data_dir.clone()),
        error => Failed::Lock(error),
    })
}

/// Of a control plane that is lost the copy may be all there is.
fn has_data(data_dir: &Path) -> bool {
    let files = [CONTROL, CONTROL_COPY];
    files.iter().any(|name| data_dir.join(name).is_file()) || !store_directories(data_dir).is_empty()
}

fn look_again(said: &CheckData) -> usize {
    let again = CheckData { data_dir: said.data_dir.clone(), repair: false, loudness: said.loudness.clone() };
    look(&again).map_or(1, |checked| checked.findings.len())
}

fn tell(checked: &Checked, repaired: bool, left: usize) -> ExitCode {
    for finding in &checked.findings {
        print(&format!("{finding}\n"));
    }
    let Checked { files, parts, findings } = checked;
    let found = match (findings.len(), repaired) {
        (0, _) => "all is well".to_owned(),
        (n, false) => format!("{n} damaged"),
        (n, true) => format!("{n} damaged, of which {left} are left"),
    };
    print(&format!("{files} files, {parts} pages, blocks and records: {found}\n"));
    if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn look(said: &CheckData) -> Result<Checked, Failed> {
    let control = said.data_dir.join(CONTROL);
    let stores = store_directories(&said.data_dir);
    let progress = Progress::default();
    let sizes: Vec<u64> =
        stores.iter().map(|(_, directory)| space::files_bytes(directory).unwrap_or(0)).collect();
    progress.add_whole(sizes.iter().sum());
    Meter::new(&said.loudness).during(&progress, || {
        let mut checked = Checked::default();
        checked.add(check_control(&control, said.repair)?);
        for ((kind, directory), bytes) in stores.into_iter().zip(sizes) {
            let before = progress.done_bytes();
            checked.add(check_store(kind, &directory, said.repair, &progress)?);
            // What is small, and what nothing reads.
            progress.add_done((before + bytes).saturating_sub(progress.done_bytes()));
        }
        Ok(checked)
    })
}

fn check_store(
    kind: SourceKind,
    directory: &Path,
    repair: bool,
    progress: &Progress,
) -> Result<Checked, Failed> {
    let failed = |e: &dyn std::fmt::Display| Failed::Store(directory.to_owned(), e.to_string());
    match (kind, repair) {
        (SourceKind::Metrics, false) => {
            pilothouse_metrics::check(directory, progress).map_err(|e| failed(&e))
        }
        (SourceKind::Metrics, true) => {
            let options = pilothouse_metrics::StoreOptions::default();
            pilothouse_metrics::repair(directory, options, progress).map_err(|e| failed(&e))
        }
        (_, false) => pilothouse_logs::check(directory, progress).map_err(|e| failed(&e)),
        (_, true) => {
            let options = pilothouse_logs::StoreOptions::default();
            pilothouse_logs::repair(directory, options, progress).map_err(|e| failed(&e))
        }
    }
}

fn check_control(path: &Path, repair: bool) -> Result<Checked, Failed> {
    let failed = |e: &dyn std::fmt::Display| Failed::Store(path.to_owned(), e.to_string());
    let mut checked = Checked::default();
    if files::is_absent_or_empty(path).map_err(|e| failed(&e))? {
        if path.with_file_name(CONTROL_COPY).is_file() {
            checked.found(path, "", "it is gone, or empty; its copy is there");
            if repair {
                tell_saved(&pilothouse_control::salvage(path).map_err(|e| failed(&e))?);
            }
        }
        return Ok(checked);
    }
    if pilothouse_control::check(path, &mut checked).map_err(|e| failed(&e))? {
        // Rows of a later release are no damage: they end this.
        let incomplete = pilothouse_control::incomplete(path).map_err(|e| failed(&e))?;
        for (table, undecodable) in &incomplete {
            checked.found(path, "", format!("{undecodable} rows of {table} cannot be read"));
        }
    }
    if repair && !checked.findings.is_empty() {
        tell_saved(&pilothouse_control::salvage(path).map_err(|e| failed(&e))?);
    }
    Ok(checked)
}

fn tell_saved(saved: &Salvaged) {
    let Salvaged { rows, copied, incomplete, aside } = saved;
    let from = if *copied > 0 { format!(", {copied} of them from its copy") } else { String::new() };
    print(&format!("control.redb: {rows} rows saved{from}; the damaged file is {}\n", aside.display()));
    for (table, undecodable) in incomplete {
        let known = if *undecodable > 0 { format!(", {undecodable} of them known") } else { String::new() };
        let fate = if *copied > 0 { "could not be read" } else { "are lost" };
        print(&format!("control.redb: rows of {table} {fate}{known}\n"));
    }
}
