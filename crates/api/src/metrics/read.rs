//! Remote read. Samples are one message and so bounded by the query's memory; chunks are
//! streamed, a series at a time.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use pilothouse_model::limits::READ_FRAME_BYTES;
use pilothouse_model::memory::Reservation;
use pilothouse_model::{
    Budget, LabelNeeds, SampleColumns, SelectedSeries, Selection, SeriesSource, SourceError,
};
use pilothouse_wire::body::{BodyError, Encoding, decompress_booked, snappy};
use pilothouse_wire::remote_read::{
    ChunksWriter, ReadQuery, ReadRequest, ResponseType, SamplesWriter, decode_request,
};

use crate::App;
use crate::admission::InTurn;
use crate::error::ApiError;
use crate::params::TIME_BOUND_MS;
use crate::reply::{BrokenBody, PIECE_BYTES, Pieces, Reply, ReplyBody};
use crate::service::Call;

/// The series of one query of the request, sorted by labels.
struct Selected {
    query: ReadQuery,
    series: Vec<SelectedSeries>,
}

pub(crate) async fn remote_read(app: &Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let client = call.client;
    let work = move |app: &App, asked: &InTurn| {
        let request = decode(app, &call.body)?;
        Ok(answer(&*app.backend()?.source, request, asked.budget.clone())?)
    };
    app.in_turn(client, None, work).await
}

fn decode(app: &App, body: &[u8]) -> Result<ReadRequest, ApiError> {
    let (limits, mut held) = (app.limits(), Reservation::nothing(app.memory()));
    let plain = decompress_booked(Encoding::Snappy, body, limits.max_body_bytes, &mut held);
    let plain = plain.map_err(|e| match e {
        BodyError::NoMemory(full) => full.into(),
        e => ApiError::bad_data(e.to_string()),
    })?;
    decode_request(&plain, &limits).map_err(|e| ApiError::bad_data(e.to_string()))
}

fn answer(source: &dyn SeriesSource, request: ReadRequest, budget: Budget) -> Result<Reply, SourceError> {
    let selected =
        request.queries.into_iter().map(|q| select(source, q, &budget)).collect::<Result<Vec<_>, _>>()?;
    let kind = request.response;
    let reply = match kind {
        ResponseType::Samples => {
            let message = samples(&selected, &budget)?;
            Reply::new(StatusCode::OK, kind.content_type(), snappy(&message))
                .header(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"))
                .holding(&budget, 0)?
        }
        ResponseType::StreamedXorChunks => {
            let frames = Frames { selected: selected.into_iter().enumerate().collect(), at: 0, budget };
            let body = ReplyBody::Pieces(Vec::new(), Box::new(frames) as Pieces);
            // The frames are compressed inside; a coding around them is not part of the protocol.
            Reply::with_body(StatusCode::OK, kind.content_type(), body)
                .header(header::CONTENT_ENCODING, HeaderValue::from_static("identity"))
        }
    };
    Ok(reply)
}

fn select(source: &dyn SeriesSource, mut query: ReadQuery, budget: &Budget) -> Result<Selected, SourceError> {
    query.start_ms = query.start_ms.clamp(-TIME_BOUND_MS, TIME_BOUND_MS);
    query.end_ms = query.end_ms.clamp(-TIME_BOUND_MS, TIME_BOUND_MS);
    let selection = Selection {
        matchers: query.matchers.clone(),
        start_ms: query.start_ms,
        end_ms: query.end_ms,
        needs: LabelNeeds::All,
    };
    let mut series = source.select(&selection, budget)?;
    series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Selected { query, series })
}

fn samples(selected: &[Selected], budget: &Budget) -> Result<Vec<u8>, SourceError> {
    let (mut writer, mut columns) = (SamplesWriter::new(), SampleColumns::default());
    for Selected { query, series } in selected {
        writer.begin_query();
        for one in series {
            budget.check("remote read")?;
            one.samples.read(query.start_ms, query.end_ms, &mut columns)?;
            let before = writer.len_bytes();
            budget.add_samples(columns.len() as u64)?;
            if !columns.is_empty() {
                writer.series(&one.labels, &columns);
            }
            budget.reserve_bytes((writer.len_bytes() - before) as u64)?;
        }
    }
    Ok(writer.finish())
}

/// Frames of chunks, made while they are sent.
struct Frames {
    /// Queries that are not answered yet, with their place in the request.
    selected: std::collections::VecDeque<(usize, Selected)>,
    /// The next series of the first of them.
    at: usize,
    budget: Budget,
}

impl Frames {
    fn piece(&mut self, out: &mut Vec<u8>) -> Result<(), SourceError> {
        let (writer, mut columns) = (ChunksWriter::new(READ_FRAME_BYTES), SampleColumns::default());
        while let Some((index, Selected { query, series })) = self.selected.front() {
            let Some(one) = series.get(self.at) else {
                self.selected.pop_front();
                self.at = 0;
                continue;
            };
            self.at += 1;
            self.budget.check("remote read")?;
            one.samples.read(query.start_ms, query.end_ms, &mut columns)?;
            writer.series(*index as i64, &one.labels, &columns, out);
            if out.len() >= PIECE_BYTES {
                break;
            }
        }
        Ok(())
    }
}

impl Iterator for Frames {
    type Item = Result<Vec<u8>, BrokenBody>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut out = Vec::new();
        match self.piece(&mut out) {
            Err(e) => Some(Err(BrokenBody(e.to_string()))),
            Ok(()) if out.is_empty() => None,
            Ok(()) => Some(Ok(out)),
        }
    }
}
