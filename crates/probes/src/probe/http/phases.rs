//! The time of a run by phase, added up over all hops.

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

    pub(super) fn take_down(&self, recorder: &mut Recorder) {
        let help = "Duration of http request by phase, summed over all redirects";
        for (phase, seconds) in self.each() {
            recorder.gauge("probe_http_duration_seconds", help, &[("phase", phase)], seconds);
        }
    }
}
