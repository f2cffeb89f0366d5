//! The time of a run by phase, added up over all hops.

use std::fmt::Display;
use std::time::Duration;

use crate::run::Recorder;

#[derive(Debug, Default, Clone, Copy)]
pub(in crate::probe) struct Phases {
    pub(in crate::probe) resolve: Duration,
    pub(in crate::probe) connect: Duration,
    pub(in crate::probe) tls: Duration,
    pub(in crate::probe) processing: Duration,
    pub(in crate::probe) transfer: Duration,
}

impl Phases {
    pub(in crate::probe) fn each(&self) -> [(&'static str, f64); 5] {
        [
            ("resolve", self.resolve.as_secs_f64()),
            ("connect", self.connect.as_secs_f64()),
            ("tls", self.tls.as_secs_f64()),
            ("processing", self.processing.as_secs_f64()),
            ("transfer", self.transfer.as_secs_f64()),
        ]
    }

    /// What was added to an earlier state: one request and its answer.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            resolve: self.resolve - before.resolve,
            connect: self.connect - before.connect,
            tls: self.tls - before.tls,
            processing: self.processing - before.processing,
            transfer: self.transfer - before.transfer,
        }
    }

    pub(super) fn say(&self, recorder: &mut Recorder) {
        let seconds = self.each();
        let fields: Vec<(&'static str, &dyn Display)> =
            seconds.iter().map(|(phase, seconds)| (*phase, seconds as &dyn Display)).collect();
        recorder.info("Response timings for roundtrip", &fields);
    }

    pub(super) fn take_down(&self, recorder: &mut Recorder) {
        let help = "Duration of http request by phase, summed over all redirects";
        for (phase, seconds) in self.each() {
            recorder.gauge("probe_http_duration_seconds", help, &[("phase", phase)], seconds);
        }
    }
}
