//! What a check, a probe and a tenant are, said once for JSON and for protobuf.
//!
//! Field numbers and JSON names are those of the Synthetic Monitoring protocol (package
//! `synthetic_monitoring`); both forms are derived from one definition, so that a check that
//! came as JSON goes to a private probe without a field lost.

mod adhoc;
mod check;
mod choices;
mod json;
mod multihttp;
mod probe;
mod secrets;
mod settings;
mod tenant;
mod tls;

pub use adhoc::AdHocCheck;
pub use check::{Channels, Check, CheckKind, Label};
pub use choices::{Compression, DnsProtocol, DnsRecordType, HttpMethod, IpVersion};
pub use json::{read_json, without_nulls};
pub use multihttp::{
    AssertionCondition, AssertionSubject, AssertionType, HttpHeader, HttpRequestBody, MultiHttpAssertion,
    MultiHttpEntry, MultiHttpRequest, MultiHttpSettings, MultiHttpVariable, QueryField, VariableType,
};
pub use probe::{Capabilities, Probe};
pub use settings::{
    BrowserSettings, CheckSettings, DnsSettings, DnsValidator, GrpcSettings, HeaderMatch, HttpSettings,
    PingSettings, ScriptedSettings, TcpQueryResponse, TcpSettings, TracerouteSettings,
};
pub use tenant::{LabelMode, Remote, SecretStore, Tenant, TenantLimits, TenantStatus};
pub use tls::{BasicAuth, OAuth2Config, TlsConfig};
