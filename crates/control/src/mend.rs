//! Damage to the file, met at a start or while it is in use: told, counted, and mended from what can be
//! read of the file for certain and from the copy beside it. The damaged file stays under another name.

use std::path::Path;

use pilothouse_disk::check::Checked;
use pilothouse_disk::files;

use crate::change::Writer;
use crate::control::{Control, Options, check};
use crate::copy;
use crate::error::Error;
use crate::image::Image;
use crate::salvage::{Salvage, Salvaged};

/// Where a file goes bad again and again, writing it anew helps nobody, and each one that is set aside
/// takes room.
const MAX_MENDS: u32 = 8;

impl Control {
    /// Opens the file as [`Control::open`] does; where it is damaged, or gone though there is a copy, it is
    /// mended first. Without a copy nothing is done that would lose a row: the file is opened as it
    /// is, or refused. Nobody else may have the file open, nor open it meanwhile: that is for the
    /// caller to see to, with a lock on the directory.
    pub fn open_mended(path: &Path, options: Options) -> Result<Self, Error> {
        let mut damage = mend_file(path)?;
        let control = match Self::open(path, options.clone()) {
            Err(cause) if cause.is_damage() && copy::has_copy(path) => {
                tracing::error!(%cause, "the control plane's file cannot be used");
                tell(&Salvage::of(path)?.write(path)?);
                damage = damage.max(1);
                Self::open(path, options)?
            }
            opened => opened?,
        };
        control.met_damage(damage);
        Ok(control)
    }

    /// Writes the file anew while it is in use. What is held in memory is newer than the copy and needs
    /// none of it. Whether that was done; if not, everything is as before.
    pub(crate) fn mend(&self, writer: &mut Writer, cause: &Error) -> bool {
        self.met_damage(1);
        tracing::error!(%cause, "the control plane's file is damaged");
        if writer.mends >= MAX_MENDS || self.database().is_closed() {
            return false;
        }
        let (path, image) = (self.database().path(), self.image());
        let mended = self.database().replaced(|| mended(path, Some(&image)));
        match mended {
            Ok(Some(saved)) => {
                writer.mends += 1;
                writer.is_copied = false;
                self.save_all_use();
                tell(&saved);
                true
            }
            Ok(None) => {
                tracing::error!("it stays as it is: there is no copy, and rows would be lost");
                false
            }
            Err(error) => {
                tracing::error!(%error, "the control plane's file cannot be mended");
                false
            }
        }
    }
}

/// Compares all checksums of a file that nobody has open, and mends it. Gives how many places were damaged.
fn mend_file(path: &Path) -> Result<u64, Error> {
    let mut checked = Checked::default();
    let is_gone = files::is_absent_or_empty(path)?;
    if is_gone && copy::has_copy(path) {
        checked.found(path, "", "the file is gone or empty, and its copy is not");
    } else if !is_gone {
        match check(path, &mut checked) {
            Err(cause) if cause.is_unreadable() => checked.found(path, "", cause),
            looked => drop(looked?),
        }
    }
    for finding in &checked.findings {
        tracing::error!(%finding, "the control plane's file is damaged");
    }
    if !checked.findings.is_empty() {
        match mended(path, None) {
            Ok(Some(saved)) => tell(&saved),
            Ok(None) => tracing::error!(
                "there is no copy of it; stop the server and run `pilothouse check-data` with --repair"
            ),
            // A new file would be made, or what another release wrote would be left out.
            Err(error) if is_gone || error.is_unknown() => return Err(error),
            // As with a full disk. What can be read is served, and the next copy tries again.
            Err(error) => tracing::error!(%error, "the control plane's file cannot be mended now"),
        }
    }
    Ok(checked.findings.len() as u64)
}

/// `None` where that would lose rows, since there is no copy.
fn mended(path: &Path, image: Option<&Image>) -> Result<Option<Salvaged>, Error> {
    let mut salvage = Salvage::of(path)?;
    if let Some(image) = image {
        salvage.know(image);
    }
    if salvage.has_copy() || salvage.lacks_nothing() {
        return salvage.write(path).map(Some);
    }
    Ok(None)
}

fn tell(saved: &Salvaged) {
    let Salvaged { rows, copied, incomplete, aside } = saved;
    let tables: Vec<&str> = incomplete.iter().map(|(table, _)| *table).collect();
    tracing::error!(
        rows,
        copied,
        incomplete = tables.join(", "),
        aside = %aside.display(),
        "the control plane's file was written anew; what could not be read of it comes from its copy, and the damaged one is kept"
    );
}
