//! Whether an answer is what it must be, and what is taken down of it.

use bytes::Bytes;
use http::header;
use pilothouse_model::NoMemory;
use pilothouse_model::matcher::{Anchoring, Pattern};

use super::{Answer, HttpError, body, version_number, version_text};
use crate::probe::LocalProber;
use crate::run::Recorder;
use crate::words::{Compression, HeaderMatch, HttpSettings};

/// Bodies up to this are searched on the spot, coded ones up to a part of it, since they may grow.
pub(in crate::probe) const INLINE_BYTES: usize = 64 << 10;

/// Whether the answer is what it must be. Long bodies are undone and searched off the async
/// workers.
pub(super) async fn judge(
    prober: &LocalProber,
    answer: Answer,
    settings: &HttpSettings,
    recorder: &mut Recorder,
) -> Result<bool, NoMemory> {
    let most = prober.limits.now().max_probe_decoded_bytes;
    let growth = if answer.headers.contains_key(header::CONTENT_ENCODING) { 16 } else { 1 };
    if answer.body.len().saturating_mul(growth) <= INLINE_BYTES {
        return judge_here(answer, settings, most, recorder);
    }
    let (settings, mut own) = (settings.clone(), std::mem::take(recorder));
    let judging = prober.readers.run(move || {
        let good = judge_here(answer, &settings, most, &mut own);
        (own, good)
    });
    match judging.await {
        Ok((own, good)) => {
            *recorder = own;
            good
        }
        Err(e) => {
            recorder.error("Error reading HTTP body", &[("err", &e)]);
            Ok(false)
        }
    }
}

fn judge_here(
    mut answer: Answer,
    settings: &HttpSettings,
    most: u64,
    recorder: &mut Recorder,
) -> Result<bool, NoMemory> {
    let status = i32::from(answer.status.as_u16());
    let wanted = settings.compression != Compression::None as i32;
    let body = body::decoded(&answer.body, &answer.headers, wanted, most, &mut answer.held);
    if let Err(HttpError::NoMemory(full)) = body {
        return Err(full);
    }
    let mut good = status_holds(status, settings, recorder);
    let regexp_failed = good && !texts_hold(&mut answer, &body, settings, recorder)?;
    let answer = &answer;
    good &= !regexp_failed;
    good &= version_holds(answer, settings, recorder) & encryption_holds(answer, settings, recorder);
    take_down(Some(answer), regexp_failed, body.map_or(0, |b| b.len()), recorder);
    Ok(good)
}

/// What is taken down when there was no answer.
pub(super) fn no_answer(recorder: &mut Recorder) {
    take_down(None, false, 0, recorder);
}

fn status_holds(status: i32, settings: &HttpSettings, recorder: &mut Recorder) -> bool {
    if settings.valid_status_codes.is_empty() {
        let good = (200..300).contains(&status);
        if !good {
            recorder.info("Invalid HTTP response status code, wanted 2xx", &[("status_code", &status)]);
        }
        return good;
    }
    let good = settings.valid_status_codes.contains(&status);
    if !good {
        let wanted = format!("{:?}", settings.valid_status_codes);
        recorder.info(
            "Invalid HTTP response status code",
            &[("status_code", &status), ("valid_status_codes", &wanted)],
        );
    }
    good
}

fn texts_hold(
    answer: &mut Answer,
    body: &Result<Bytes, HttpError>,
    settings: &HttpSettings,
    recorder: &mut Recorder,
) -> Result<bool, NoMemory> {
    let matched = settings.fail_if_header_matches_regexp.iter().find(|m| header_fails(answer, m, true));
    let missed = settings.fail_if_header_not_matches_regexp.iter().find(|m| header_fails(answer, m, false));
    if let Some(m) = matched.or(missed) {
        recorder
            .error("Header failed its regular expression", &[("header", &m.header), ("regexp", &m.regexp)]);
        return Ok(false);
    }
    if settings.fail_if_body_matches_regexp.is_empty() && settings.fail_if_body_not_matches_regexp.is_empty()
    {
        return Ok(true);
    }
    let body = match body {
        Ok(body) => body,
        Err(e) => {
            recorder.error("Error reading HTTP body", &[("err", e)]);
            return Ok(false);
        }
    };
    let text = body::text(body, &mut answer.held)?;
    if let Some(regexp) = settings.fail_if_body_matches_regexp.iter().find(|r| matches(r, &text)) {
        recorder.error("Body matched regular expression", &[("regexp", regexp)]);
        return Ok(false);
    }
    if let Some(regexp) = settings.fail_if_body_not_matches_regexp.iter().find(|r| !matches(r, &text)) {
        recorder.error("Body did not match regular expression", &[("regexp", regexp)]);
        return Ok(false);
    }
    Ok(true)
}

/// Values of a header that came several times count as one text. A header that is missing fails
/// unless it may be missing.
fn header_fails(answer: &Answer, m: &HeaderMatch, fail_on_match: bool) -> bool {
    let values = answer.headers.get_all(&m.header);
    let texts: Vec<String> =
        values.iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect();
    if texts.is_empty() {
        return !m.allow_missing;
    }
    matches(&m.regexp, &texts.join(", ")) == fail_on_match
}

/// The expression was checked when it was stored.
fn matches(regexp: &str, text: &str) -> bool {
    Pattern::new(regexp, Anchoring::Part).is_ok_and(|pattern| pattern.is_match(text))
}

fn version_holds(answer: &Answer, settings: &HttpSettings, recorder: &mut Recorder) -> bool {
    let version = version_text(answer.version);
    let good = settings.valid_http_versions.is_empty()
        || settings.valid_http_versions.iter().any(|valid| valid == version);
    if !good {
        recorder.error("Invalid HTTP version number", &[("version", &version)]);
    }
    good
}

fn encryption_holds(answer: &Answer, settings: &HttpSettings, recorder: &mut Recorder) -> bool {
    if answer.encrypted && settings.fail_if_ssl {
        recorder.error("Final request was over SSL", &[]);
        return false;
    }
    if !answer.encrypted && settings.fail_if_not_ssl {
        recorder.error("Final request was not over SSL", &[]);
        return false;
    }
    true
}

fn take_down(answer: Option<&Answer>, regexp_failed: bool, uncompressed: usize, recorder: &mut Recorder) {
    let length = answer.map_or(0.0, |a| {
        let text = a.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        text.and_then(|t| t.parse().ok()).unwrap_or(-1.0)
    });
    let encrypted = answer.is_some_and(|a| a.encrypted);
    for (name, help, value) in [
        (
            "probe_http_status_code",
            "Response HTTP status code",
            answer.map_or(0.0, |a| f64::from(a.status.as_u16())),
        ),
        ("probe_http_content_length", "Length of http content response", length),
        ("probe_http_uncompressed_body_length", "Length of uncompressed response body", uncompressed as f64),
        (
            "probe_http_ssl",
            "Indicates if SSL was used for the final redirect",
            f64::from(u8::from(encrypted)),
        ),
        (
            "probe_http_version",
            "Returns the version of HTTP of the probe response",
            answer.map_or(0.0, |a| version_number(a.version)),
        ),
        (
            "probe_failed_due_to_regex",
            "Indicates if probe failed due to regex",
            f64::from(u8::from(regexp_failed)),
        ),
    ] {
        recorder.gauge(name, help, &[], value);
    }
    let modified = answer.and_then(|a| a.headers.get(header::LAST_MODIFIED)).and_then(|v| v.to_str().ok());
    if let Some(at) = modified.and_then(|text| httpdate::parse_http_date(text).ok()) {
        let seconds = at.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let help = "Returns the Last-Modified HTTP response header in unixtime";
        recorder.gauge("probe_http_last_modified_timestamp_seconds", help, &[], seconds);
    }
}
