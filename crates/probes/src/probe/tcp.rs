//! Connecting, and a dialogue of lines.

use std::net::SocketAddr;

use pilothouse_model::limits::CHECK_LINE_BYTES;
use pilothouse_model::matcher::{Anchoring, CapturingPattern};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use super::clock::in_time;
use super::connect::{ConnectError, dial, resolve, split_target};
use super::{LocalProber, tls};
use crate::run::{Recorder, Target};
use crate::words::{IpVersion, TcpQueryResponse, TcpSettings};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

type Dialogue = BufReader<Box<dyn Stream>>;

#[derive(Debug, thiserror::Error)]
enum TcpError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Tls(#[from] pilothouse_net::BuildError),
    #[error("no line matched {0:?} before the end")]
    NoMatch(String),
    #[error("invalid regexp {0:?}")]
    Regexp(String),
    #[error("target is not host:port")]
    Target,
}

pub(super) async fn probe(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &TcpSettings,
    recorder: &mut Recorder,
) -> bool {
    let help = "Indicates if probe failed due to regex";
    recorder.gauge("probe_failed_due_to_regex", help, &[], 0.0);
    // Blackbox exporter compares bytes too; the words of a check have no place for them.
    recorder.gauge("probe_failed_due_to_bytes", "Indicates if probe failed due to bytes", &[], 0.0);
    match in_time(target.timeout, talk(prober, target, settings, recorder)).await {
        Ok(()) => true,
        Err(e) => {
            let regexp = matches!(e, TcpError::NoMatch(_));
            recorder.gauge("probe_failed_due_to_regex", help, &[], f64::from(u8::from(regexp)));
            recorder.error(if regexp { "Regexp did not match" } else { "Error dialing TCP" }, &[("err", &e)]);
            false
        }
    }
}

async fn talk(
    prober: &LocalProber,
    target: &Target<'_>,
    settings: &TcpSettings,
    recorder: &mut Recorder,
) -> Result<(), TcpError> {
    let (host, port) = split_target(target.target).ok_or(TcpError::Target)?;
    let version = IpVersion::try_from(settings.ip_version).unwrap_or_default();
    let (address, _) = resolve(host, version, &prober.rules, recorder).await?;
    recorder.info(if settings.tls { "Dialing TCP with TLS" } else { "Dialing TCP without TLS" }, &[]);
    let stream = dial(SocketAddr::new(address, port), &settings.source_ip_address).await?;
    let stream: Box<dyn Stream> = Box::new(stream);
    let stream = if settings.tls { encrypt(prober, stream, settings, host, recorder).await? } else { stream };
    recorder.info("Successfully dialed", &[]);
    let mut dialogue = BufReader::new(stream);
    for step in &settings.query_response {
        dialogue = self::step(prober, dialogue, step, settings, host, recorder).await?;
    }
    Ok(())
}

async fn encrypt(
    prober: &LocalProber,
    stream: Box<dyn Stream>,
    settings: &TcpSettings,
    host: &str,
    recorder: &mut Recorder,
) -> Result<Box<dyn Stream>, TcpError> {
    let own = settings.tls_config.as_ref();
    let config = prober.tls.client(own, &[])?;
    let stream = tls::handshake(config, own, host, stream).await?;
    tls::take_down(stream.get_ref().1, !own.is_some_and(|t| t.insecure_skip_verify), recorder);
    Ok(Box::new(stream))
}

/// Waits for a line, answers it, and turns to TLS, each as far as it is asked for.
async fn step(
    prober: &LocalProber,
    mut dialogue: Dialogue,
    step: &TcpQueryResponse,
    settings: &TcpSettings,
    host: &str,
    recorder: &mut Recorder,
) -> Result<Dialogue, TcpError> {
    let mut send = step.send.clone();
    if !step.expect.is_empty() {
        let (pattern, line) = wait_for(&mut dialogue, &step.expect, recorder).await?;
        send = pattern.expand(&line, &String::from_utf8_lossy(&send)).unwrap_or_default().into_bytes();
    }
    if !send.is_empty() {
        recorder.info("Sending line", &[("line", &String::from_utf8_lossy(&send))]);
        send.push(b'\n');
        dialogue.write_all(&send).await?;
        dialogue.flush().await?;
    }
    if step.start_tls {
        // What was read ahead is dropped with the reader: nothing may precede the handshake.
        let stream = encrypt(prober, dialogue.into_inner(), settings, host, recorder).await?;
        return Ok(BufReader::new(stream));
    }
    Ok(dialogue)
}

/// Reads lines until one matches; gives that line and what it matched.
async fn wait_for(
    dialogue: &mut Dialogue,
    expect: &[u8],
    recorder: &mut Recorder,
) -> Result<(CapturingPattern, String), TcpError> {
    let text = String::from_utf8_lossy(expect).into_owned();
    let pattern =
        CapturingPattern::new(&text, Anchoring::Part).map_err(|_| TcpError::Regexp(text.clone()))?;
    loop {
        let mut bytes = Vec::new();
        let read = (&mut *dialogue).take(CHECK_LINE_BYTES).read_until(b'\n', &mut bytes).await?;
        if read == 0 {
            return Err(TcpError::NoMatch(text));
        }
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches(['\r', '\n']);
        recorder.info("Read line", &[("line", &line)]);
        if pattern.is_match(line) {
            recorder.info("Regexp matched", &[("regexp", &text), ("line", &line)]);
            return Ok((pattern, line.to_owned()));
        }
    }
}
