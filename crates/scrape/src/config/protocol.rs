//! The formats that may be asked of a target, and the header that asks for them.

use serde::{Deserialize, Deserializer};

/// A format, best first in a job's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    PrometheusProto,
    OpenMetricsText1_0_0,
    OpenMetricsText0_0_1,
    PrometheusText1_0_0,
    PrometheusText0_0_4,
}

/// How names that need quotes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escaping {
    #[default]
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    const ALL: [(Self, &'static str); 4] = [
        (Self::AllowUtf8, "allow-utf-8"),
        (Self::Underscores, "underscores"),
        (Self::Dots, "dots"),
        (Self::Values, "values"),
    ];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(escaping, _)| *escaping)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(escaping, _)| *escaping == self).map_or("", |(_, name)| name)
    }
}

impl Protocol {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::OpenMetricsText0_0_1, "OpenMetricsText0.0.1", "application/openmetrics-text;version=0.0.1"),
        (Self::OpenMetricsText1_0_0, "OpenMetricsText1.0.0", "application/openmetrics-text;version=1.0.0"),
        (
            Self::PrometheusProto,
            "PrometheusProto",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        ),
        (Self::PrometheusText0_0_4, "PrometheusText0.0.4", "text/plain;version=0.0.4"),
        (Self::PrometheusText1_0_0, "PrometheusText1.0.0", "text/plain;version=1.0.0"),
    ];

    pub(crate) const DEFAULT: [Self; 4] = [
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    /// Where native histograms are wanted, which only protobuf carries.
    pub(crate) const PROTO_FIRST: [Self; 5] = [
        Self::PrometheusProto,
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    fn header(self) -> &'static str {
        Self::ALL.iter().find(|(protocol, ..)| *protocol == self).map_or("", |(_, _, header)| header)
    }

    /// The media type that names this format in an answer.
    pub(crate) fn media_type(self) -> &'static str {
        self.header().split(';').next().unwrap_or("")
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let said = String::deserialize(from)?;
        Self::ALL.iter().find(|(_, name, _)| *name == said).map(|(protocol, ..)| *protocol).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(_, name, _)| *name).collect();
            let names = names.join(" ");
            serde::de::Error::custom(format!("unknown scrape protocol {said}, supported: [{names}]"))
        })
    }
}

/// The header `Accept` for a list of formats: weights fall from 0.6, and anything is better than
/// nothing.
pub(crate) fn accept_header(protocols: &[Protocol], escaping: Escaping) -> String {
    let mut weight = Protocol::ALL.len() + 1;
    let mut out = String::new();
    for protocol in protocols {
        out.push_str(protocol.header());
        if matches!(protocol, Protocol::PrometheusText1_0_0 | Protocol::OpenMetricsText1_0_0) {
            out.push_str(&format!(";escaping={}", escaping.name()));
        }
        out.push_str(&format!(";q=0.{weight},"));
        weight = weight.saturating_sub(1);
    }
    out.push_str(&format!("*/*;q=0.{weight}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_is_that_of_prometheus() {
        assert_eq!(
            accept_header(&Protocol::DEFAULT, Escaping::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        assert_eq!(
            accept_header(&[Protocol::PrometheusProto], Escaping::Underscores),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
             q=0.6,*/*;q=0.5"
        );
    }
}
