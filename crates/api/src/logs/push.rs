//! Entries coming in: Loki's push and OTLP logs.
//!
//! As with samples, one hop takes a request off the async workers: decompression, decoding and
//! the append run back to back on the write pool, and only the wait for the disk is
//! asynchronous. The good part of a request is kept whatever its bad part is.

use std::sync::Arc;
use std::time::Instant;

use http::{StatusCode, header};
use pilothouse_control::Amounts;
use pilothouse_model::limits::Limits;
use pilothouse_model::log_ports::LogAppended;
use pilothouse_model::memory::Reservation;
use pilothouse_model::write::{Appended, Durable};
use pilothouse_wire::DecodeError;
use pilothouse_wire::body::{BodyError, Encoding, decompress_booked};
use pilothouse_wire::logs::{self, LogDecoded, NO_STREAMS, PushFormat};
use pilothouse_wire::otlp::{self, OtlpFormat};

use crate::App;
use crate::error::{ApiError, Kind};
use crate::logs::errors;
use crate::logs::texts::Refusals;
use crate::offload;
use crate::reply::Reply;
use crate::service::Call;

/// What the entries of a request take in memory beside its bytes, in times of them.
const DECODED: u64 = 2;

/// How long a sender should wait before it comes again with what was refused for now.
const RETRY_AFTER_S: u64 = 1;

pub(crate) async fn push(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let format =
        PushFormat::from_content_type(call.header(header::CONTENT_TYPE)).map_err(ApiError::bad_data)?;
    let encoding = call.header(header::CONTENT_ENCODING).to_owned();
    let body = call.body;
    let stored = store(app, body.len(), move |app, limits, held| {
        let plain =
            logs::open(format, &encoding, &body, limits.max_body_bytes, held).map_err(|e| body_error(&e))?;
        held.grow(plain.len() as u64 * DECODED)?;
        logs::decode(format, &plain, &app.logs.enricher, limits).map_err(|e| decode_error(&e))
    });
    let stored = stored.await?;
    let reply = match stored.complaint() {
        None => Reply::empty(StatusCode::NO_CONTENT),
        Some(e) => errors::refuse(e),
    };
    Ok(reply.storing(stored.amounts))
}

/// What became of a request.
struct Stored {
    refusals: Refusals,
    amounts: Amounts,
}

impl Stored {
    /// What is wrong with the part that was refused, if any was.
    fn complaint(&self) -> Option<ApiError> {
        if self.refusals.is_empty() {
            return None;
        }
        let text = self.refusals.text();
        Some(match self.refusals.status() {
            StatusCode::TOO_MANY_REQUESTS => {
                ApiError::new(Kind::TooManyRequests, text).retry_after(RETRY_AFTER_S)
            }
            _ => ApiError::bad_data(text),
        })
    }
}

/// OTLP over HTTP. A sender is told what is wrong by a `google.rpc.Status`.
pub(crate) async fn otlp(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let content_type = call.header(header::CONTENT_TYPE);
    let Some(format) = OtlpFormat::from_content_type(content_type) else {
        let text = format!("content type: {content_type} is not supported");
        return Ok(otlp_refusal(ApiError::bad_data(text)));
    };
    let encoding = call.header(header::CONTENT_ENCODING).to_owned();
    let body = call.body;
    let stored = store(app, body.len(), move |app, limits, held| {
        let encoding = otlp_encoding(&encoding)?;
        let plain =
            decompress_booked(encoding, &body, limits.max_body_bytes, held).map_err(|e| body_error(&e))?;
        held.grow(plain.len() as u64 * DECODED)?;
        otlp::decode_logs(format, &plain, &app.logs.enricher, limits).map_err(|e| decode_error(&e))
    });
    Ok(match stored.await {
        Err(e) => otlp_refusal(e),
        Ok(stored) => {
            let reply = match stored.complaint() {
                None => Reply::empty(StatusCode::NO_CONTENT),
                Some(e) => otlp_refusal(e),
            };
            reply.storing(stored.amounts)
        }
    })
}

/// Loki takes lz4 as well.
fn otlp_encoding(name: &str) -> Result<Encoding, ApiError> {
    match name {
        "" => Ok(Encoding::Identity),
        "gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        _ => {
            let text = format!("unsupported content encoding {name}: only gzip and zstd are supported");
            Err(ApiError::bad_data(text))
        }
    }
}

/// Senders of OTLP come again after a 503, never after a 500. As in Loki, JSON too is answered in Protobuf.
pub(crate) fn otlp_refusal(e: ApiError) -> Reply {
    let status = match errors::status(e.kind) {
        StatusCode::INTERNAL_SERVER_ERROR => StatusCode::SERVICE_UNAVAILABLE,
        status => status,
    };
    let body = otlp::status(OtlpFormat::Protobuf, 0, &e.text);
    e.with_retry(Reply::new(status, "application/octet-stream", body))
}

/// Decodes, appends, and waits until what was appended is durable.
async fn store(
    app: &Arc<App>,
    received_bytes: usize,
    decode: impl FnOnce(&App, &Limits, &mut Reservation) -> Result<LogDecoded, ApiError> + Send + 'static,
) -> Result<Stored, ApiError> {
    app.logs.telemetry.received_bytes.add(received_bytes as u64);
    let work = {
        let app = Arc::clone(app);
        move || {
            let mut held = Reservation::nothing(&app.settings.memory);
            let decoded = decode(&app, &app.limits(), &mut held)?;
            append(&app, decoded)
        }
    };
    let (mut stored, durable) = offload::write_lines(work).await??;
    let waited = Instant::now();
    durable.await?;
    app.logs.telemetry.durable_seconds.add(waited.elapsed());
    if stored.amounts.entries > 0 {
        stored.amounts.bytes = received_bytes as u64;
    }
    Ok(stored)
}

fn append(app: &App, decoded: LogDecoded) -> Result<(Stored, Durable), ApiError> {
    let LogDecoded { mut batch, streams, mut rejections, rejected } = decoded;
    if streams == 0 {
        return Err(ApiError::new(Kind::Execution, NO_STREAMS));
    }
    let telemetry = &app.logs.telemetry;
    telemetry.received_entries.add(batch.entries.len() as u64 + rejected);
    app.logs.rates.admit(&batch)?;
    let too_fast = app.logs.rates.thin(&mut batch);
    let sink = app.log_sink().ok_or_else(crate::own::starting)?;
    let appended = sink.append(&batch)?;
    let LogAppended { entries, bytes, duplicates, created, rejections: more, rejected: refused, durable } =
        appended;
    rejections.extend(more);
    rejections.truncate(Appended::MAX_REJECTIONS);
    let slowed: u64 = too_fast.iter().map(|t| t.entries).sum();
    telemetry.stored_entries.add(entries);
    telemetry.stored_bytes.add(bytes);
    telemetry.duplicates.add(duplicates);
    telemetry.refused.add(rejected + refused + slowed);
    let refusals = Refusals {
        rejections,
        rejected: rejected + refused,
        too_fast,
        stream_rate: app.limits().max_stream_bytes_per_second,
    };
    let amounts = Amounts { entries, streams: created, ..Amounts::default() };
    Ok((Stored { refusals, amounts }, durable))
}

fn body_error(e: &BodyError) -> ApiError {
    match e {
        BodyError::UnsupportedEncoding(name) => ApiError::bad_data(format!(
            "Content-Encoding {} not supported",
            pilothouse_model::labels::quote(name)
        )),
        BodyError::TooLarge { limit } => too_large(*limit),
        BodyError::Corrupt { encoding, why } => ApiError::bad_data(
            logs::corrupt_text(*encoding, why).map_or_else(|| e.to_string(), str::to_owned),
        ),
        BodyError::NoMemory(full) => (*full).into(),
    }
}

/// A body beyond the limit, before or after decompression.
pub(crate) fn too_large(limit: u64) -> ApiError {
    ApiError::new(Kind::TooLarge, format!("request body too large: limit: {limit} bytes"))
}

fn decode_error(e: &DecodeError) -> ApiError {
    let kind = if e.is_too_large() { Kind::TooLarge } else { Kind::BadData };
    ApiError::new(kind, e.to_string())
}
