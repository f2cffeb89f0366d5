//! The audit trail as lines of the server's own data source of logs.
//!
//! The trail itself is the control plane's; these lines follow it, so that it can be searched as
//! logs are. What a crash left out is appended at the next start: an entry that is there already
//! has the same time and line, and the store keeps it once.

use std::sync::Arc;

use pilothouse_api::audit_line;
use pilothouse_control::{AuditEntry, Control};
use pilothouse_model::limits::AUDIT_QUEUE;
use pilothouse_model::{EntrySink, Labels, LogBatch, SourceError};
use tokio::sync::mpsc;

/// How far back the lines are looked after at a start.
const LOOK_BACK: usize = 1000;
const MS_NS: i64 = 1_000_000;

/// Writes what was changed and what will be, until the task is aborted.
pub(crate) async fn follow(control: Arc<Control>, lines: Arc<dyn EntrySink>) {
    let (sender, mut receiver) = mpsc::channel::<AuditEntry>(AUDIT_QUEUE);
    control.watch(move |entry| {
        if sender.try_send(entry.clone()).is_err() {
            tracing::warn!(number = entry.number, "an audit entry has no log line before the next start");
        }
    });
    match control.audit(None, LOOK_BACK) {
        Ok(mut past) => {
            past.reverse();
            write(&lines, past).await;
        }
        Err(e) => tracing::error!("the audit trail cannot be read: {e}"),
    }
    let mut entries = Vec::new();
    while receiver.recv_many(&mut entries, AUDIT_QUEUE).await > 0 {
        write(&lines, std::mem::take(&mut entries)).await;
    }
}

async fn write(lines: &Arc<dyn EntrySink>, entries: Vec<AuditEntry>) {
    let lines = Arc::clone(lines);
    let appended = tokio::task::spawn_blocking(move || append(&*lines, &entries)).await;
    if let Ok(Err(e)) = appended {
        tracing::error!("audit entries without log lines: {e}");
    }
}

/// Lines that are older than retention are refused, as everything that old is.
fn append(lines: &dyn EntrySink, entries: &[AuditEntry]) -> Result<(), SourceError> {
    let mut batch = LogBatch::default();
    batch.begin_stream(Labels::from_pairs([("kind", "audit"), ("service_name", "pilothouse")]));
    for entry in entries {
        // The number keeps apart and in order what happens in one millisecond.
        let t_ns = entry.at_ms.saturating_mul(MS_NS) + (entry.number % MS_NS.unsigned_abs()) as i64;
        batch.push(t_ns, &audit_line(entry), Labels::default());
    }
    lines.append(&batch).map(|_| ())
}
