//! Samples to a server, in requests of bounded size.

use bytes::Bytes;
use http::Method;
use pilothouse_model::limits::{MOVE_PUSH_BYTES, MOVE_PUSH_SAMPLES};
use pilothouse_model::write::BatchExemplar;
use pilothouse_model::{Labels, SampleColumns};
use pilothouse_wire::body::snappy;
use pilothouse_wire::remote_write::{Message, RequestWriter, SeriesParts, push_series};

use super::super::client::CommandError;
use super::Counts;
use super::peer::Peer;

/// How many samples of a series are put in before the size is looked at.
const RUN: usize = 500;

/// Remote write in bounded requests.
pub(super) struct Pusher {
    peer: Peer,
    path: &'static str,
    skip_refused: bool,
    body: Vec<u8>,
    samples: usize,
    counts: Counts,
}

impl Pusher {
    pub(super) fn new(peer: Peer, path: &'static str, skip_refused: bool) -> Self {
        Self { peer, path, skip_refused, body: Vec::new(), samples: 0, counts: Counts::default() }
    }

    pub(super) fn host(&self) -> &str {
        self.peer.host()
    }

    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Gives how many samples were taken.
    pub(super) async fn take(
        &mut self,
        labels: &Labels,
        samples: &SampleColumns,
    ) -> Result<u64, CommandError> {
        let floats = samples.times_ms.chunks(RUN).zip(samples.values.chunks(RUN));
        for (times, values) in floats {
            let run =
                SampleColumns { times_ms: times.to_vec(), values: values.to_vec(), histograms: Vec::new() };
            self.take_run(labels, &run).await?;
        }
        for histograms in samples.histograms.chunks(RUN) {
            let run = SampleColumns { histograms: histograms.to_vec(), ..SampleColumns::default() };
            self.take_run(labels, &run).await?;
        }
        Ok(samples.len() as u64)
    }

    /// Exemplars of a series, which go along without its samples.
    pub(super) async fn take_exemplars(
        &mut self,
        labels: &Labels,
        exemplars: &[BatchExemplar],
    ) -> Result<(), CommandError> {
        for exemplars in exemplars.chunks(RUN) {
            let mut request = RequestWriter::new(Message::V1);
            request.series(labels, &SeriesParts { exemplars, ..SeriesParts::default() });
            self.body.extend(request.finish());
            self.added(exemplars.len()).await?;
        }
        Ok(())
    }

    async fn take_run(&mut self, labels: &Labels, run: &SampleColumns) -> Result<(), CommandError> {
        push_series(&mut self.body, labels, run);
        self.added(run.len()).await
    }

    async fn added(&mut self, samples: usize) -> Result<(), CommandError> {
        self.samples += samples;
        let full = self.samples >= MOVE_PUSH_SAMPLES || self.body.len() >= MOVE_PUSH_BYTES;
        if full { self.flush().await } else { Ok(()) }
    }

    /// What was taken is at the other side.
    pub(super) async fn flush(&mut self) -> Result<(), CommandError> {
        if self.samples == 0 {
            return Ok(());
        }
        let body = Bytes::from(snappy(&self.body));
        self.body.clear();
        self.samples = 0;
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        let answer = self.peer.call(Method::POST, self.path, &headers, body).await?;
        self.counts.pushed(&self.peer, &answer, self.skip_refused)
    }
}
