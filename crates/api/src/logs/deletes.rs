//! Requests to delete entries, as Loki's compactor takes them.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderName, StatusCode};
use pilothouse_logql::{self as logql, Expr};
use pilothouse_model::limits::LOG_DELETION_INTERVAL_MS;
use pilothouse_query::units::parse_go_duration;

use crate::App;
use crate::backend::{KnownDeletion, LogDeletion};
use crate::error::{ApiError, Kind};
use crate::json::{push_list, push_seconds, push_string};
use crate::logs::params::go_duration;
use crate::offload;
use crate::params::Params;
use crate::reply::Reply;
use crate::service::Call;

const MS_NS: i64 = 1_000_000;

/// Entries of the selector that pass its filters are hidden at once, and gone from the disk when
/// the time to take the request back is over.
pub(crate) async fn add(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let work = {
        let app = Arc::clone(app);
        move || {
            let request = read(&call.params, app.now_ms())?;
            Ok::<_, ApiError>(app.logs_backend()?.admin.delete(&request)?)
        }
    };
    let id = offload::blocking(work).await??;
    let reply = Reply::empty(StatusCode::NO_CONTENT);
    Ok(reply.header(HeaderName::from_static("x-delete-request-id"), id_text(id)))
}

fn read(params: &Params, now_ms: i64) -> Result<LogDeletion, ApiError> {
    let query = params.text("query");
    if query.is_empty() {
        return Err(ApiError::bad_data("query not set"));
    }
    // Loki takes selectors of everything here.
    let Ok(Expr::Log(log)) = logql::syntax::parse_unchecked(query) else {
        return Err(ApiError::bad_data("invalid query expression"));
    };
    let start_ms = match params.text("start") {
        "" => return Err(ApiError::bad_data("start time not set")),
        text => time_ms(text, "start")?,
    };
    let end_ms = match params.text("end") {
        "" => now_ms,
        text => time_ms(text, "end")?,
    };
    if end_ms > now_ms {
        return Err(ApiError::bad_data("deletes in the future are not allowed"));
    }
    if start_ms >= end_ms {
        return Err(ApiError::bad_data("start time can't be greater than or equal to end time"));
    }
    if !log.stages.is_empty() {
        check_interval(params.text("max_interval"), end_ms - start_ms)?;
    }
    let filter = log.stages.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    Ok(LogDeletion {
        matchers: log.matchers,
        start_ns: start_ms.saturating_mul(MS_NS),
        // Loki's end is inclusive.
        end_ns: end_ms.saturating_mul(MS_NS).saturating_add(1),
        filter,
        query: query.to_owned(),
    })
}

/// Unix seconds of ten digits, or RFC 3339.
fn time_ms(text: &str, name: &str) -> Result<i64, ApiError> {
    let wrong = || ApiError::bad_data(format!("invalid {name} time: require unix seconds or RFC3339 format"));
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let seconds: i64 = text.parse().ok().filter(|_| text.len() == 10).ok_or_else(wrong)?;
    Ok(seconds * 1_000)
}

/// In Loki a request is worked off in intervals of this length. Here it is not, but what would be
/// refused there is refused here.
fn check_interval(text: &str, length_ms: i64) -> Result<(), ApiError> {
    if text.is_empty() {
        return Ok(());
    }
    let wrong = "invalid max_interval: valid time units are 's', 'm', 'h'";
    let ns = parse_go_duration(text).ok().filter(|ns| *ns >= 1_000 * MS_NS);
    let ms = ns.ok_or_else(|| ApiError::bad_data(wrong))? / MS_NS;
    let shown = |ms: i64| go_duration(i128::from(ms) * i128::from(MS_NS));
    if ms > LOG_DELETION_INTERVAL_MS {
        let text = format!("max_interval can't be greater than {}", shown(LOG_DELETION_INTERVAL_MS));
        return Err(ApiError::bad_data(text));
    }
    if ms > length_ms {
        let text =
            format!("max_interval can't be greater than the interval to be deleted ({})", shown(length_ms));
        return Err(ApiError::bad_data(text));
    }
    Ok(())
}

/// All requests, the oldest first; with `start` and `end` only those that overlap.
pub(crate) async fn list(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let (start, end) = (call.params.text("start"), call.params.text("end"));
    let range = match (start, end) {
        ("", _) | (_, "") => None,
        _ => Some((time_ms(start, "start")?, time_ms(end, "end")?)),
    };
    let work = {
        let app = Arc::clone(app);
        move || Ok::<_, ApiError>(app.logs_backend()?.admin.deletions())
    };
    let mut all = offload::short(work).await??;
    if let Some((start_ms, end_ms)) = range {
        all.retain(|d| d.start_ns / MS_NS <= end_ms && d.end_ns / MS_NS >= start_ms);
    }
    let mut out = String::new();
    push_list(&mut out, &all, push_deletion);
    Ok(Reply::new(StatusCode::OK, "application/json", out))
}

fn push_deletion(out: &mut String, deletion: &KnownDeletion) {
    let _ = write!(out, "{{\"request_id\":\"{}\",\"start_time\":", id_text(deletion.id));
    push_seconds(out, deletion.start_ns / MS_NS);
    out.push_str(",\"end_time\":");
    push_seconds(out, deletion.end_ns / MS_NS);
    out.push_str(",\"query\":");
    push_string(out, &deletion.query);
    let status = if deletion.done { "processed" } else { "received" };
    let _ = write!(out, ",\"status\":\"{status}\",\"created_at\":");
    push_seconds(out, deletion.created_ms);
    out.push_str(",\"user_id\":\"\"}");
}

/// Takes a request back: its entries are shown again.
pub(crate) async fn cancel(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let absent = || ApiError::new(Kind::NotFound, "could not find delete request with given id");
    let id = u64::from_str_radix(call.params.text("request_id"), 16).map_err(|_| absent())?;
    let work = {
        let app = Arc::clone(app);
        move || {
            let admin = &app.logs_backend()?.admin;
            if !admin.deletions().iter().any(|d| d.id == id) {
                return Err(absent());
            }
            Ok(admin.cancel_deletion(id)?)
        }
    };
    if offload::blocking(work).await?? {
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    }
    let text = "deletion of request which is in process or already processed is not allowed";
    Err(ApiError::bad_data(text))
}

fn id_text(id: u64) -> String {
    format!("{id:08x}")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn read_query(query: &str) -> Result<LogDeletion, String> {
        let params = Params::read(Some(query), &HeaderMap::new(), &Bytes::new());
        read(&params, NOW_MS).map_err(|e| e.text)
    }

    #[test]
    fn requests_are_read() {
        let query = "query={app=\"x\"} |= \"y\" | json | a=\"b\"&start=1690000000&max_interval=1h";
        let request = read_query(query).unwrap();
        assert_eq!(request.filter, "|= \"y\" | json | a=\"b\"");
        assert_eq!((request.start_ns, request.end_ns), (1_690_000_000_000 * MS_NS, NOW_MS * MS_NS + 1));
        assert_eq!(request.matchers.len(), 1);
        assert!(read_query("query={a=~\".*\"}&start=1690000000").is_ok());
        for (query, text) in [
            ("start=1690000000", "query not set"),
            ("query=rate({a=\"b\"}[1m])&start=1690000000", "invalid query expression"),
            ("query=1&start=1690000000", "invalid query expression"),
            ("query={a=\"b\"}", "start time not set"),
            ("query={a=\"b\"}&start=1", "invalid start time: require unix seconds or RFC3339 format"),
            ("query={a=\"b\"}&start=1690000000&end=1800000000", "deletes in the future are not allowed"),
            (
                "query={a=\"b\"}&start=1690000000&end=1690000000",
                "start time can't be greater than or equal to end time",
            ),
            (
                "query={a=\"b\"}|=\"x\"&start=1690000000&max_interval=1d",
                "invalid max_interval: valid time units are 's', 'm', 'h'",
            ),
            (
                "query={a=\"b\"}|=\"x\"&start=1690000000&max_interval=24.5h",
                "max_interval can't be greater than 24h0m0s",
            ),
            (
                "query={a=\"b\"}|=\"x\"&start=1690000000&max_interval=25h",
                "max_interval can't be greater than 24h0m0s",
            ),
            (
                "query={a=\"b\"}|=\"x\"&start=1690000000&end=1690000060&max_interval=1h",
                "max_interval can't be greater than the interval to be deleted (1m0s)",
            ),
        ] {
            assert_eq!(read_query(query).map(|_| ()), Err(text.to_owned()), "{query}");
        }
    }
}
