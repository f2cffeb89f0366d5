//! A question to a name server, over UDP or TCP.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use pilothouse_model::matcher::{Anchoring, Pattern};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

use super::LocalProber;
use super::clock::{Watch, in_time};
use super::connect::{ConnectError, dial, resolve};
use crate::run::{Recorder, Target};
use crate::words::{DnsProtocol, DnsRecordType, DnsSettings, DnsValidator, IpVersion};

/// The largest answer that the protocol allows.
const MAX_ANSWER_BYTES: usize = 65_535;

#[derive(Debug, thiserror::Error)]
pub(super) enum DnsError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Message(String),
}

pub(super) async fn probe(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &DnsSettings,
    recorder: &mut Recorder,
) -> bool {
    for phase in ["resolve", "connect", "request"] {
        self::phase(recorder, phase, 0.0);
    }
    let answer = in_time(target.timeout, ask(prober, target, settings, recorder)).await;
    let succeeded = "Displays whether or not the query was executed successfully";
    recorder.gauge("probe_dns_query_succeeded", succeeded, &[], f64::from(u8::from(answer.is_ok())));
    match answer {
        Ok(answer) => {
            count(Some(&answer), recorder);
            holds(&answer, settings, recorder)
        }
        Err(e) => {
            count(None, recorder);
            recorder.error("Error while sending a DNS query", &[("err", &e)]);
            false
        }
    }
}

fn phase(recorder: &mut Recorder, phase: &str, seconds: f64) {
    recorder.gauge(
        "probe_dns_duration_seconds",
        "Duration of DNS request by phase",
        &[("phase", phase)],
        seconds,
    );
}

fn count(answer: Option<&Message>, recorder: &mut Recorder) {
    let of = |section: fn(&Message) -> &[Record]| answer.map_or(0, |a| section(a).len());
    for (name, help, records) in [
        (
            "probe_dns_answer_rrs",
            "Returns number of entries in the answer resource record list",
            of(|a| &a.answers),
        ),
        (
            "probe_dns_authority_rrs",
            "Returns number of entries in the authority resource record list",
            of(|a| &a.authorities),
        ),
        (
            "probe_dns_additional_rrs",
            "Returns number of entries in the additional resource record list",
            of(|a| &a.additionals),
        ),
    ] {
        recorder.gauge(name, help, &[], records as f64);
    }
    let soa = answer.into_iter().flat_map(|a| &a.answers).find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    });
    if let Some(serial) = soa {
        recorder.gauge("probe_dns_serial", "Returns the serial number of the zone", &[], f64::from(serial));
    }
}

async fn ask(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &DnsSettings,
    recorder: &mut Recorder,
) -> Result<Message, DnsError> {
    let version = IpVersion::try_from(settings.ip_version).unwrap_or_default();
    let (address, took) = resolve(&settings.server, version, &prober.rules, recorder).await?;
    phase(recorder, "resolve", took.as_secs_f64());
    let port = u16::try_from(settings.port).ok().filter(|port| *port > 0).unwrap_or(53);
    let server = SocketAddr::new(address, port);
    let record_type = record_type(settings);
    let tcp = DnsProtocol::try_from(settings.protocol).unwrap_or_default() == DnsProtocol::Tcp;
    let transport = if tcp { "tcp" } else { "udp" };
    recorder.info(
        "Making DNS query",
        &[
            ("target", &server),
            ("dial_protocol", &transport),
            ("query", &target.target),
            ("type", &record_type),
            ("class", &"IN"),
        ],
    );
    let question = question(target.target, record_type)?;
    let bytes = question.to_vec().map_err(|e| DnsError::Message(e.to_string()))?;
    let mut watch = Watch::start();
    let answer = if tcp {
        let mut stream = dial(server, &settings.source_ip_address).await?;
        phase(recorder, "connect", watch.lap().as_secs_f64());
        over_tcp(&mut stream, &bytes).await
    } else {
        let socket = udp_socket(server, &settings.source_ip_address).await?;
        phase(recorder, "connect", watch.lap().as_secs_f64());
        over_udp(&socket, &bytes, question.metadata.id).await
    };
    phase(recorder, "request", watch.lap().as_secs_f64());
    let answer = Message::from_vec(&answer?).map_err(|e| DnsError::Message(e.to_string()))?;
    recorder.info("Got response", &[("rcode", &rcode_text(answer.metadata.response_code))]);
    Ok(answer)
}

fn record_type(settings: &DnsSettings) -> RecordType {
    let text = DnsRecordType::try_from(settings.record_type).unwrap_or_default().text();
    RecordType::from_str(text).unwrap_or(RecordType::ANY)
}

pub(super) fn question(name: &str, record_type: RecordType) -> Result<Message, DnsError> {
    let mut name = Name::from_utf8(name).map_err(|e| DnsError::Message(e.to_string()))?;
    name.set_fqdn(true);
    let mut query = Query::query(name, record_type);
    query.set_query_class(DNSClass::IN);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query);
    Ok(message)
}

async fn over_tcp(stream: &mut tokio::net::TcpStream, question: &[u8]) -> Result<Vec<u8>, DnsError> {
    let length = u16::try_from(question.len()).map_err(|e| DnsError::Message(e.to_string()))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

pub(super) async fn udp_socket(server: SocketAddr, source: &str) -> Result<UdpSocket, DnsError> {
    let any = if server.is_ipv4() { "0.0.0.0" } else { "::" };
    let text = if source.is_empty() { any } else { source };
    let source: IpAddr = text.parse().map_err(|_| ConnectError::Source(text.to_owned()))?;
    let socket = UdpSocket::bind(SocketAddr::new(source, 0)).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// The first datagram that answers this question; others may be late or forged.
pub(super) async fn over_udp(socket: &UdpSocket, question: &[u8], id: u16) -> Result<Vec<u8>, DnsError> {
    socket.send(question).await?;
    let mut answer = vec![0; MAX_ANSWER_BYTES];
    loop {
        let read = socket.recv(&mut answer).await?;
        if answer.get(..2) == Some(&id.to_be_bytes()[..]) && read >= 12 {
            answer.truncate(read);
            return Ok(answer);
        }
    }
}

fn holds(answer: &Message, settings: &DnsSettings, recorder: &mut Recorder) -> bool {
    let rcode = rcode_text(answer.metadata.response_code);
    let valid = &settings.valid_rcodes;
    let accepted = if valid.is_empty() {
        rcode == "NOERROR"
    } else {
        valid.iter().any(|v| v.eq_ignore_ascii_case(&rcode))
    };
    if !accepted {
        recorder.info("Rcode is not one of the valid rcodes", &[("rcode", &rcode), ("string_rcode", &rcode)]);
        return false;
    }
    let sections = [
        ("answer", &settings.validate_answer, &answer.answers),
        ("authority", &settings.validate_authority, &answer.authorities),
        ("additional", &settings.validate_additional, &answer.additionals),
    ];
    sections.into_iter().all(|(name, validator, records)| {
        validator.as_ref().is_none_or(|validator| section_holds(name, validator, records, recorder))
    })
}

/// Every record must miss every expression of the one list and match every one of the other; an
/// empty section has nothing that matches.
fn section_holds(name: &str, validator: &DnsValidator, records: &[Record], recorder: &mut Recorder) -> bool {
    if records.is_empty() && !validator.fail_if_not_matches_regexp.is_empty() {
        recorder.error("RRs validation failed: the section is empty", &[("section", &name)]);
        return false;
    }
    for record in records {
        let text = record_text(record);
        let matches = |r: &&String| Pattern::new(r, Anchoring::Part).is_ok_and(|p| p.is_match(&text));
        let hit = validator.fail_if_matches_regexp.iter().find(matches);
        let miss = validator.fail_if_not_matches_regexp.iter().find(|r| !matches(r));
        if let Some(regexp) = hit.or(miss) {
            let message = if hit.is_some() { "RR matched regexp" } else { "RR did not match regexp" };
            recorder.error(message, &[("section", &name), ("regexp", regexp), ("rr", &text)]);
            return false;
        }
    }
    true
}

/// `name. TTL IN TYPE data`, parted by tabs as Go's library writes it.
fn record_text(record: &Record) -> String {
    format!(
        "{}\t{}\t{}\t{}\t{}",
        record.name,
        record.ttl,
        record.dns_class,
        record.record_type(),
        record.data
    )
}

/// As the configuration spells codes.
fn rcode_text(code: ResponseCode) -> String {
    let text = match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::YXDomain => "YXDOMAIN",
        ResponseCode::YXRRSet => "YXRRSET",
        ResponseCode::NXRRSet => "NXRRSET",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        other => return format!("RCODE{}", u16::from(other)),
    };
    text.to_owned()
}
