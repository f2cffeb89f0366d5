//! The probers: one kind of check each, over one way of reaching a target.
//!
//! Names of gauges and the words of lines are those of blackbox_exporter and of the real probe
//! program, since dashboards and people look for them.

mod clock;
mod connect;
mod dns;
mod driven;
mod grpc;
mod http;
mod icmp;
mod multihttp;
mod ping;
mod readers;
mod reverse;
mod rules;
mod tcp;
mod tls;
mod traceroute;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use pilothouse_model::limits::LiveLimits;
use pilothouse_model::{Memory, NoMemory};

use crate::run::{Prober, Recorder, Target};

pub use multihttp::found_in;
pub use rules::{TargetRules, UnknownRange};

/// Probes from this machine.
#[derive(Debug)]
pub struct LocalProber {
    rules: TargetRules,
    limits: LiveLimits,
    /// Where bodies of answers are booked, and what is made of them.
    memory: Arc<Memory>,
    readers: readers::Readers,
    tls: tls::Clients,
}

impl LocalProber {
    pub fn new(rules: TargetRules, limits: LiveLimits, memory: Arc<Memory>) -> Self {
        Self { rules, limits, memory, readers: readers::Readers::default(), tls: tls::Clients::default() }
    }
}

impl Prober for LocalProber {
    fn probe<'a>(
        &'a self,
        target: &'a Target<'a>,
        recorder: &'a mut Recorder,
    ) -> Pin<Box<dyn Future<Output = Result<bool, NoMemory>> + Send + 'a>> {
        Box::pin(async move {
            let settings = target.settings;
            if let Some(http) = &settings.http {
                return http::probe(self, target, http, recorder).await;
            }
            if let Some(multihttp) = &settings.multihttp {
                return multihttp::probe(self, target, multihttp, recorder).await;
            }
            // What the others read is short.
            Ok(if let Some(tcp) = &settings.tcp {
                tcp::probe(self, target, tcp, recorder).await
            } else if let Some(dns) = &settings.dns {
                dns::probe(self, target, dns, recorder).await
            } else if let Some(grpc) = &settings.grpc {
                grpc::probe(self, target, grpc, recorder).await
            } else if let Some(ping) = &settings.ping {
                ping::probe(self, target, ping, recorder).await
            } else if let Some(traceroute) = &settings.traceroute {
                traceroute::probe(self, target, traceroute, recorder).await
            } else {
                recorder.error("no prober for this kind of check", &[]);
                false
            })
        })
    }
}
