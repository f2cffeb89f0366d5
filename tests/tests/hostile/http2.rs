//! Frames of HTTP/2 as somebody writes them who keeps to no rule but theirs.

use serde_json::Value;

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const FRAME_BYTES: usize = 16_384;

/// The preface, `settings` (hexadecimal), and on each of `streams` streams a request: `method`,
/// `path`, `headers`, the body, the frames of `each` (a kind and its payload), and a reset where `reset`
/// says so; then `after` as it stands. Its end is told unless `open` says that more will come.
pub(crate) fn conversation(of: &Value, body: &[u8]) -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, SETTINGS, 0, 0, &super::unhex(of["settings"].as_str().unwrap_or("")));
    let is = |name: &str| of[name].as_bool() == Some(true);
    let head = match of["block"].as_array() {
        Some(_) => super::parts(&of["block"]),
        None => block(of),
    };
    for n in 0..of["streams"].as_u64().unwrap_or(1) as u32 {
        let id = 2 * n + 1;
        let ends = body.is_empty() && !is("open");
        frame(&mut out, HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, id, &head);
        let pieces = body.chunks(FRAME_BYTES).count();
        for (at, piece) in body.chunks(FRAME_BYTES).enumerate() {
            let is_last = at + 1 == pieces && !is("open");
            frame(&mut out, DATA, u8::from(is_last), id, piece);
        }
        for extra in of["each"].as_array().into_iter().flatten() {
            frame(
                &mut out,
                extra[0].as_u64().unwrap() as u8,
                0,
                id,
                &super::unhex(extra[1].as_str().unwrap()),
            );
        }
        if is("reset") {
            frame(&mut out, RESET, 0, id, &8_u32.to_be_bytes());
        }
    }
    out.extend(super::parts(&of["after"]));
    out
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// Every header as a literal that nobody is to remember.
fn block(of: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let own = [
        (":method", of["method"].as_str().unwrap_or("GET")),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", of["path"].as_str().unwrap()),
    ];
    let also = of["headers"].as_array().into_iter().flatten();
    let also = also.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    for (name, value) in own.into_iter().chain(also) {
        out.push(0);
        for text in [name, value] {
            length(&mut out, text.len());
            out.extend(text.bytes());
        }
    }
    out
}

/// An integer with seven bits in its first byte.
fn length(out: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return out.push(length as u8) };
    out.push(127);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
