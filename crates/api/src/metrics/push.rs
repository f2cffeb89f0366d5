//! Samples coming in: remote write 1.0 and 2.0, OTLP, exposition text.
//!
//! One hop takes a request off the async workers: decompression, decoding and the append run
//! back to back on the write pool; only the wait for the disk is asynchronous. The good part
//! of a request is kept whatever its bad part is.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pilothouse_control::Amounts;
use pilothouse_model::limits::Limits;
use pilothouse_model::memory::Reservation;
use pilothouse_model::write::{Appended, Durable, Rejection};
use pilothouse_wire::body::{BodyError, Encoding, decompress_booked};
use pilothouse_wire::exposition::{TextFormat, import};
use pilothouse_wire::remote_write::{self, Message};
use pilothouse_wire::{DecodeError, Decoded};

use crate::App;
use crate::error::{ApiError, Kind};
use crate::metrics::texts;
use crate::offload;
use crate::reply::Reply;
use crate::service::{Call, too_large};

/// What the samples of a request take in memory while they are stored, in times of its bytes.
const DECODED: u64 = 3;

/// What became of a request, once it is durable.
pub(crate) struct Stored {
    pub(crate) floats: u64,
    pub(crate) histograms: u64,
    exemplars: u64,
    created: u64,
    pub(crate) rejections: Vec<Rejection>,
    pub(crate) rejected: u64,
    /// Of the request, as it came.
    bytes: u64,
}

pub(crate) async fn remote_write(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let content_type = call.header(header::CONTENT_TYPE);
    let Some(message) = Message::from_content_type(content_type) else {
        let text = format!("unsupported content type {content_type:?}; send application/x-protobuf");
        return Err(ApiError::new(Kind::UnsupportedMediaType, text));
    };
    let encoding = match call.header(header::CONTENT_ENCODING) {
        // The protocol knows no other; senders that leave the header out mean it.
        "" => Encoding::Snappy,
        named => Encoding::from_header(named).map_err(|e| body_error(&e))?,
    };
    let written =
        store(app, call.body, encoding, move |body, limits| remote_write::decode(message, body, limits));
    match message {
        Message::V1 => written.await.map(|stored| answer(&stored, StatusCode::OK)),
        // A sender takes an answer without the headers for one of a 1.0 receiver.
        Message::V2 => Ok(match written.await {
            Ok(stored) => with_counts(answer(&stored, StatusCode::NO_CONTENT), &stored),
            Err(e) => with_counts(e.into_text(), &Stored::NOTHING),
        }),
    }
}

/// Lines of exposition text or OpenMetrics, any compression that HTTP knows. Samples without a
/// time get the server's.
pub(crate) async fn import_text(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let format = TextFormat::from_content_type(call.header(header::CONTENT_TYPE));
    let encoding =
        Encoding::from_header(call.header(header::CONTENT_ENCODING)).map_err(|e| body_error(&e))?;
    let now_ms = app.now_ms();
    let decode = move |body: Vec<u8>, limits: &Limits| import(format, &body, now_ms, limits);
    let stored = store(app, call.body, encoding, decode).await?;
    Ok(answer(&stored, StatusCode::NO_CONTENT))
}

impl Stored {
    pub(crate) fn amounts(&self) -> Amounts {
        let samples = self.floats + self.histograms;
        let bytes = if samples > 0 { self.bytes } else { 0 };
        Amounts { samples, bytes, series: self.created, ..Amounts::default() }
    }

    const NOTHING: Self = Self {
        floats: 0,
        histograms: 0,
        exemplars: 0,
        created: 0,
        rejections: Vec::new(),
        rejected: 0,
        bytes: 0,
    };
}

fn answer(stored: &Stored, good: StatusCode) -> Reply {
    let reply = match stored.rejected {
        0 => Reply::empty(good),
        _ => Reply::text(StatusCode::BAD_REQUEST, texts::of_all(&stored.rejections, stored.rejected)),
    };
    reply.storing(stored.amounts())
}

fn with_counts(reply: Reply, stored: &Stored) -> Reply {
    let name = HeaderName::from_static;
    reply
        .header(name("x-prometheus-remote-write-samples-written"), HeaderValue::from(stored.floats))
        .header(name("x-prometheus-remote-write-histograms-written"), HeaderValue::from(stored.histograms))
        .header(name("x-prometheus-remote-write-exemplars-written"), HeaderValue::from(stored.exemplars))
}

/// Decompresses, decodes, appends, and waits until what was appended is durable.
pub(crate) async fn store(
    app: &Arc<App>,
    body: Bytes,
    encoding: Encoding,
    decode: impl FnOnce(Vec<u8>, &Limits) -> Result<Decoded, DecodeError> + Send + 'static,
) -> Result<Stored, ApiError> {
    let bytes = body.len() as u64;
    app.telemetry.received_bytes.add(bytes);
    let work = {
        let app = Arc::clone(app);
        move || {
            let limits = app.limits();
            let mut held = Reservation::nothing(&app.settings.memory);
            let plain = decompress_booked(encoding, &body, limits.max_body_bytes, &mut held)
                .map_err(|e| body_error(&e))?;
            drop(body);
            held.grow(plain.len() as u64 * (DECODED - 1))?;
            let decoded = decode(plain, &limits).map_err(|e| decode_error(&e))?;
            append(&app, decoded)
        }
    };
    let (mut stored, durable) = offload::write(work).await??;
    stored.bytes = bytes;
    let waited = Instant::now();
    durable.await?;
    app.telemetry.durable_seconds.add(waited.elapsed());
    count(app, &stored);
    Ok(stored)
}

fn append(app: &App, decoded: Decoded) -> Result<(Stored, Durable), ApiError> {
    let batch = &decoded.batch;
    let received = (batch.floats.len() + batch.histograms.len() + batch.exemplars.len()) as u64;
    app.telemetry.received_samples.add(received);
    app.admission.samples(received)?;
    let Appended { floats, histograms, exemplars, created, rejections, rejected, durable } =
        app.backend()?.sink.append(batch)?;
    let mut all = decoded.rejections;
    all.extend(rejections);
    all.truncate(Appended::MAX_REJECTIONS);
    let rejected = decoded.rejected + rejected;
    Ok((Stored { floats, histograms, exemplars, created, rejections: all, rejected, bytes: 0 }, durable))
}

fn count(app: &App, stored: &Stored) {
    let telemetry = &app.telemetry;
    telemetry.stored_floats.add(stored.floats);
    telemetry.stored_histograms.add(stored.histograms);
    telemetry.stored_exemplars.add(stored.exemplars);
    telemetry.refused.add(stored.rejected);
}

pub(crate) fn body_error(e: &BodyError) -> ApiError {
    match e {
        BodyError::UnsupportedEncoding(_) => ApiError::new(Kind::UnsupportedMediaType, e.to_string()),
        BodyError::TooLarge { limit } => too_large(*limit),
        BodyError::Corrupt { .. } => ApiError::bad_data(e.to_string()),
        BodyError::NoMemory(full) => (*full).into(),
    }
}

fn decode_error(e: &DecodeError) -> ApiError {
    if e.is_too_large() {
        ApiError::new(Kind::TooLarge, e.to_string())
    } else {
        ApiError::bad_data(e.to_string())
    }
}
