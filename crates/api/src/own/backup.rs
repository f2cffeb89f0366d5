//! A backup of everything, made by the server that has the data open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;
use pilothouse_disk::backup::{BackupError, Summary};

use super::starting;
use crate::App;
use crate::error::{ApiError, Kind};
use crate::offload;
use crate::reply::Reply;
use crate::service::Call;

/// Copies all data.
pub trait Backups: Send + Sync + fmt::Debug {
    /// Into a directory of the server's machine; see [`pilothouse_disk::backup`]. `None` while
    /// another backup runs. Blocks, for as long as copying takes.
    fn back_up(&self, to: &Path) -> Result<Option<Summary>, BackupError>;
}

/// `POST /-/backup?dir=/absolute/path`.
pub(super) async fn back_up(app: &App, call: &Call) -> Result<Reply, ApiError> {
    let to = PathBuf::from(call.params.text("dir"));
    if !to.is_absolute() {
        return Err(ApiError::parameter("dir", "an absolute path on the server's machine is wanted"));
    }
    let backups = Arc::clone(app.backups.get().ok_or_else(starting)?);
    let done = offload::blocking(move || backups.back_up(&to)).await?;
    match done {
        Ok(Some(summary)) => Ok(Reply::new(StatusCode::OK, "application/json", shown(summary))),
        Ok(None) => Err(ApiError::new(Kind::TooManyRequests, "another backup is being made").retry_after(30)),
        Err(e @ (BackupError::NotEmpty { .. } | BackupError::Manifest { .. })) => {
            Err(ApiError::bad_data(e.to_string()))
        }
        Err(e) => {
            tracing::error!("backup: {e}");
            Err(ApiError::new(Kind::Internal, e.to_string()))
        }
    }
}

fn shown(summary: Summary) -> String {
    let Summary { files, bytes, copied_files, copied_bytes } = summary;
    format!(
        "{{\"status\":\"success\",\"data\":{{\"files\":{files},\"bytes\":{bytes},\
         \"copiedFiles\":{copied_files},\"copiedBytes\":{copied_bytes}}}}}"
    )
}
