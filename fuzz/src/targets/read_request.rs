//! Remote read: requests, and the decoders of both kinds of answer.
//!
//! Invariants: a request that was read is written and read the same; answers never panic.

use pilothouse_model::limits::Limits;
use pilothouse_wire::remote_read::{decode_request, encode_request, read_frames, read_response};

pub fn run(data: &[u8]) {
    let limits = Limits { max_read_matchers: 20, ..Limits::default() };
    if let Ok(request) = decode_request(data, &limits) {
        let again = encode_request(&request.queries, &[request.response]);
        assert_eq!(decode_request(&again, &limits).expect("what was written is read"), request);
    }
    let _ = read_response(data, 100);
    let _ = read_frames(data, 1 << 16, |_, _| {});
}
