//! A backup of everything, made by the server that has the data open.

use std::fmt;
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
    /// To `s3://BUCKET/PREFIX` or an absolute path of the server's machine, with links instead of
    /// copies where that is asked for and can be; see [`pilothouse_disk::backup`]. `None` while
    /// another backup runs. Blocks, for as long as copying takes.
    fn back_up(&self, to: &str, links: bool) -> Result<Option<Summary>, BackupError>;

    /// Bytes that are done and bytes of the whole, while a backup runs.
    fn progress(&self) -> Option<(u64, u64)>;
}

/// `POST /-/backup?to=/absolute/path`, or `to=s3://bucket/prefix`; `links=true`.
pub(super) async fn back_up(app: &App, call: &Call) -> Result<Reply, ApiError> {
    let backups = Arc::clone(app.backups.get().ok_or_else(starting)?);
    let (to, links) = (call.params.text("to").to_owned(), call.params.text("links") == "true");
    if to.is_empty() {
        return Err(ApiError::parameter("to", "an absolute path or s3://BUCKET/PREFIX is wanted"));
    }
    let done = offload::blocking(move || backups.back_up(&to, links)).await?;
    match done {
        Ok(Some(summary)) => Ok(Reply::new(StatusCode::OK, "application/json", shown(summary))),
        Ok(None) => Err(ApiError::new(Kind::TooManyRequests, "another backup is being made").retry_after(30)),
        Err(
            e @ (BackupError::NotEmpty { .. } | BackupError::Manifest { .. } | BackupError::Unusable { .. }),
        ) => Err(ApiError::bad_data(e.to_string())),
        Err(BackupError::NoMemory(full)) => Err(full.into()),
        Err(e) => {
            tracing::error!("backup: {e}");
            Err(ApiError::new(Kind::Internal, e.to_string()))
        }
    }
}

/// `GET /-/backup`: how far the backup is that runs.
pub(super) fn progress(app: &App) -> Result<Reply, ApiError> {
    let backups = app.backups.get().ok_or_else(starting)?;
    Ok(Reply::new(StatusCode::OK, "application/json", how_far(backups.progress())))
}

fn how_far(progress: Option<(u64, u64)>) -> String {
    let (done, whole) = progress.unwrap_or_default();
    let running = progress.is_some();
    format!(
        "{{\"status\":\"success\",\"data\":{{\"running\":{running},\"doneBytes\":{done},\"bytes\":{whole}}}}}"
    )
}

fn shown(summary: Summary) -> String {
    let Summary { files, bytes, copied_files, copied_bytes } = summary;
    format!(
        "{{\"status\":\"success\",\"data\":{{\"files\":{files},\"bytes\":{bytes},\
         \"copiedFiles\":{copied_files},\"copiedBytes\":{copied_bytes}}}}}"
    )
}
