//! What senders are told about pushes that cannot be read: Loki's own answers to these bodies.

#![allow(clippy::unwrap_used, reason = "a failure is the test's answer")]

use pilothouse_model::limits::Limits;
use pilothouse_wire::logs::{Enricher, PushFormat, decode};
use pilothouse_wire::otlp::{OtlpFormat, decode_logs};

fn complaint(format: PushFormat, body: &[u8]) -> String {
    decode(format, body, &Enricher::default(), &Limits::default()).unwrap_err().to_string()
}

const REQUEST: &str = "loghttp.PushRequest.";
const STREAMS: &str = "loghttp.PushRequest.Streams: []loghttp.LogProtoStream: ";

/// Bodies and texts up to the larger cut of the body; what stands in front of nearly all is named.
const JSON: &[(&str, &str)] = &[
    ("", "EOF"),
    (r#"{"s"#, r#"REQUEST readFieldHash: incomplete field name, error found in #2 byte of ...|{"s|..."#),
    (
        r#"{"stre"#,
        r#"REQUEST readFieldHash: incomplete field name, error found in #2 byte of ...|{"stre|..."#,
    ),
    (
        r#"{"streams":["#,
        r#"STREAMS Skip: do not know how to skip: 0, error found in #10 byte of ...|streams":[|..."#,
    ),
    (
        r#"{"streams":[{"s"#,
        r#"STREAMS readStringSlowPath: unexpected end of input, error found in #10 byte of ...|eams":[{"s|..."#,
    ),
    (
        r#"{"streams":[{"stream""#,
        "STREAMS ReadObject: expect : after object field, but found \x00, error found in #10 byte of ...|[{\"stream\"|...",
    ),
    (
        r#"{"streams":[{"stream":{"a":"b""#,
        r#"STREAMS ReadObjectCB: object not ended with }, error found in #10 byte of ...|":{"a":"b"|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","line one""#,
        "STREAMS ReadArrayCB: expect ] in the end, but found \x00, error found in #10 byte of ...|\"line one\"|...",
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","line one"],["1700000000000000000""#,
        "STREAMS ReadArrayCB: expect ] in the end, but found \x00, error found in #10 byte of ...|000000000\"|...",
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","line one"],["1700000000000000000","line two",{"m":"n"}]]}"#,
        "STREAMS decode slice: expect ], but found \x00, error found in #10 byte of ...|m\":\"n\"}]]}|...",
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","line one"],["1700000000000000000","line two",{"m":"n"}]]},{"stream":{"#,
        "STREAMS ReadObjectCB: expect \" after {, but found \x00, error found in #10 byte of ...|\"stream\":{|...",
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","line one"],["1700000000000000000","line two",{"m":"n"}]]},{"stream":{"a""#,
        "STREAMS ReadObject: expect : after object field, but found \x00, error found in #10 byte of ...|ream\":{\"a\"|...",
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","line one"],["1700000000000000000","line two",{"m":"n"}]]},{"stream":{"a":"c"},"#,
        "STREAMS ReadString: expects \" or n, but found \x00, error found in #10 byte of ...|{\"a\":\"c\"},|...",
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","line one"],["1700000000000000000","line two",{"m":"n"}]]},{"stream":{"a":"c"},"values":[["1700000000000000000","line one"],["1700000000000000000","line two",{"m":"n""#,
        r#"STREAMS ReadObjectCB: object not ended with }, error found in #10 byte of ...|",{"m":"n"|..."#,
    ),
    (
        r#"{"streams":[null]}"#,
        r#"STREAMS unmarshalerDecoder: Value looks like object, but can't find closing '}' symbol, error found in #10 byte of ...|ams":[null]}|..."#,
    ),
    (
        r#"{"streams":[[]]}"#,
        r#"STREAMS unmarshalerDecoder: Value looks like object, but can't find closing '}' symbol, error found in #10 byte of ...|reams":[[]]}|..."#,
    ),
    (
        r#"{"streams":[tru]}"#,
        r#"STREAMS skipThreeBytes: expect rue, error found in #10 byte of ...|ams":[tru]}|..."#,
    ),
    (
        r#"{"streams":[-]}"#,
        r#"STREAMS readNumberAsString: invalid number, error found in #10 byte of ...|treams":[-]}|..."#,
    ),
    (
        r#"{"streams":[nulx]}"#,
        r#"STREAMS skipThreeBytes: expect ull, error found in #10 byte of ...|ams":[nulx]}|..."#,
    ),
    (
        r#"{"streams":[{]]}"#,
        r#"STREAMS ReadObjectCB: expect " after {, but found ], error found in #10 byte of ...|reams":[{]]}|..."#,
    ),
    (
        r#"{"streams":[{"a"]}"#,
        r#"STREAMS ReadObject: expect : after object field, but found ], error found in #10 byte of ...|ms":[{"a"]}|..."#,
    ),
    (
        r#"{"streams":[{"a":}]}"#,
        r#"STREAMS Skip: do not know how to skip: 125, error found in #10 byte of ...|s":[{"a":}]}|..."#,
    ),
    (
        r#"{"streams":[{"a":1}}]}"#,
        r#"STREAMS decode slice: expect ], but found }, error found in #10 byte of ...|:[{"a":1}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream"}]}"#,
        r#"STREAMS ReadObject: expect : after object field, but found }, error found in #10 byte of ...|{"stream"}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{]}]}"#,
        r#"STREAMS ReadObjectCB: expect " after {, but found ], error found in #10 byte of ...|stream":{]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a"}}]}"#,
        r#"STREAMS ReadObject: expect : after object field, but found }, error found in #10 byte of ...|eam":{"a"}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b",}}]}"#,
        r#"STREAMS ReadString: expects " or n, but found }, error found in #10 byte of ...|{"a":"b",}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{,}}]}"#,
        r#"STREAMS ReadObjectCB: expect " after {, but found ,, error found in #10 byte of ...|stream":{,}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{1:2}}]}"#,
        r#"STREAMS ReadObjectCB: expect " after {, but found 1, error found in #10 byte of ...|stream":{1:2}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},,"values":[]}]}"#,
        r#"STREAMS ReadString: expects " or n, but found ,, error found in #10 byte of ...|"a":"b"},,"values":[|..."#,
    ),
    (
        r#"{"streams":[{stream:{}}]}"#,
        r#"STREAMS ReadObjectCB: expect " after {, but found s, error found in #10 byte of ...|reams":[{stream:{}}]|..."#,
    ),
    (
        r#"{"streams":[{'stream':{}}]}"#,
        r#"STREAMS ReadObjectCB: expect " after {, but found ', error found in #10 byte of ...|reams":[{'stream':{}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"\x"}}]}"#,
        r#"STREAMS readEscapedChar: invalid escape char after \, error found in #10 byte of ...|":{"a":"\x"}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a\q":"x"}}]}"#,
        r#"STREAMS readEscapedChar: invalid escape char after \, error found in #10 byte of ...|eam":{"a\q":"x"}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":nul}}]}"#,
        r#"STREAMS skipThreeBytes: expect ull, error found in #10 byte of ...|:{"a":nul}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":01}}]}"#,
        r#"STREAMS readFloat32: leading zero is invalid, error found in #10 byte of ...|eam":{"a":01}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":1.2.3}}]}"#,
        r#"STREAMS validateNumber: more than one dot found in number, error found in #10 byte of ...|am":{"a":1.2.3}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":{}}]}"#,
        r#"STREAMS unmarshalerDecoder: Unknown value type, error found in #10 byte of ...|alues":{}}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":1}]}"#,
        r#"STREAMS unmarshalerDecoder: Malformed JSON error, error found in #10 byte of ...|values":1}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":"x"}]}"#,
        r#"STREAMS unmarshalerDecoder: Malformed JSON error, error found in #10 byte of ...|lues":"x"}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":true}]}"#,
        r#"STREAMS unmarshalerDecoder: Unknown value type, error found in #10 byte of ...|ues":true}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[[]}]}"#,
        r#"STREAMS ReadArrayCB: expect ] in the end, but found }, error found in #10 byte of ...|lues":[[]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[[],]}]}"#,
        r#"STREAMS Skip: do not know how to skip: 93, error found in #10 byte of ...|ues":[[],]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[,]}]}"#,
        r#"STREAMS Skip: do not know how to skip: 44, error found in #10 byte of ...|values":[,]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[[] []]}]}"#,
        r#"STREAMS ReadArrayCB: expect ] in the end, but found [, error found in #10 byte of ...|ues":[[] []]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[[1]]}]}"#,
        r#"STREAMS unmarshalerDecoder: Value is string, but can't find closing '"' symbol, error found in #10 byte of ...|es":[[1]]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[[1,2]]}]}"#,
        r#"STREAMS unmarshalerDecoder: Value is string, but can't find closing '"' symbol, error found in #10 byte of ...|":[[1,2]]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000" "x"]]}]}"#,
        r#"STREAMS ReadArrayCB: expect ] in the end, but found ", error found in #10 byte of ...|0000000" "x"]]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","\u12"]]}]}"#,
        r#"STREAMS readU4: expects 0~9 or a~f, but found ", error found in #10 byte of ...|00","\u12"]]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[[1700000000000000000,"x"]]}]}"#,
        r#"STREAMS unmarshalerDecoder: Value looks like Number/Boolean/None, but can't find its end: ',' or '}' symbol, error found in #10 byte of ...|000,"x"]]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1.5","x"]]}]}"#,
        r#"STREAMS unmarshalerDecoder: Value looks like Number/Boolean/None, but can't find its end: ',' or '}' symbol, error found in #10 byte of ...|.5","x"]]}]}|..."#,
    ),
    (
        r#"{"streams":[{"stream":{"a":"b"},"values":[['1700000000000000000','x']]}]}"#,
        r#"STREAMS Skip: do not know how to skip: 39, error found in #10 byte of ...|alues":[['1700000000|..."#,
    ),
    (
        r#"{"streams":[]"#,
        "REQUEST isObjectEnd: object ended prematurely, unexpected char \x00, error found in #10 byte of ...|treams\":[]|...",
    ),
    (
        r#"{"streams":[],"x":}"#,
        r#"REQUEST Skip: do not know how to skip: 125, error found in #10 byte of ...|":[],"x":}|..."#,
    ),
    (
        r#"{"x":tru,"streams":[]}"#,
        r#"REQUEST skipThreeBytes: expect rue, error found in #9 byte of ...|{"x":tru,"streams":|..."#,
    ),
    (
        r#"{"x":"abc"#,
        r#"REQUEST readStringSlowPath: unexpected end of input, error found in #9 byte of ...|{"x":"abc|..."#,
    ),
    (
        r#"{"x":{"y":[1,2}"#,
        r#"REQUEST ReadArrayCB: expect ] in the end, but found }, error found in #10 byte of ...|{"y":[1,2}|..."#,
    ),
    (
        r#"{"x":[1,2}}"#,
        r#"REQUEST ReadArrayCB: expect ] in the end, but found }, error found in #10 byte of ...|{"x":[1,2}}|..."#,
    ),
    (
        r#"{"streams":[] x"#,
        r#"REQUEST isObjectEnd: object ended prematurely, unexpected char x, error found in #10 byte of ...|eams":[] x|..."#,
    ),
    (
        r#"{"streams":1}"#,
        r#"STREAMS decode slice: expect [ or n, but found 1, error found in #10 byte of ...|streams":1}|..."#,
    ),
    (
        r#"{"streams":"x"}"#,
        r#"STREAMS decode slice: expect [ or n, but found ", error found in #10 byte of ...|streams":"x"}|..."#,
    ),
    (
        r#"{"streams":true}"#,
        r#"STREAMS decode slice: expect [ or n, but found t, error found in #10 byte of ...|streams":true}|..."#,
    ),
    (
        r#"{"streams" []}"#,
        r#"REQUEST readFieldHash: expect :, but found [, error found in #10 byte of ...|streams" []}|..."#,
    ),
    (
        "{streams:[]}",
        r#"REQUEST readFieldHash: expect ", but found s, error found in #2 byte of ...|{streams:[]}|..."#,
    ),
    (
        r#"{"streams":[{}] ]}"#,
        r#"REQUEST isObjectEnd: object ended prematurely, unexpected char ], error found in #10 byte of ...|ms":[{}] ]}|..."#,
    ),
    (
        r#"{"streams":[{} {}]}"#,
        r#"STREAMS decode slice: expect ], but found {, error found in #10 byte of ...|ams":[{} {}]}|..."#,
    ),
    (
        r#"{"str\eams":[]}"#,
        r#"REQUEST readEscapedChar: invalid escape char after \, error found in #7 byte of ...|{"str\eams":[]}|..."#,
    ),
    (
        r#"{"x":-}"#,
        r#"REQUEST readNumberAsString: invalid number, error found in #6 byte of ...|{"x":-}|..."#,
    ),
    (r#"{"x""#, "REQUEST readFieldHash: expect :, but found \x00, error found in #4 byte of ...|{\"x\"|..."),
    (
        r#"{"x":1"#,
        r#"REQUEST isObjectEnd: object ended prematurely, unexpected char 1, error found in #6 byte of ...|{"x":1|..."#,
    ),
    (
        r#"{"x":1.2.3}"#,
        r#"REQUEST validateNumber: more than one dot found in number, error found in #6 byte of ...|{"x":1.2.3}|..."#,
    ),
    (r#"{"x":\}"#, r#"REQUEST Skip: do not know how to skip: 92, error found in #6 byte of ...|{"x":\}|..."#),
    ("nulL", "skipThreeBytes: expect ull, error found in #4 byte of ...|nulL|..."),
    ("NULL", "readObjectStart: expect { or n, but found N, error found in #1 byte of ...|NULL|..."),
    ("{,}", r#"REQUEST readFieldHash: expect ", but found ,, error found in #2 byte of ...|{,}|..."#),
    (
        r#"{"a":1,}"#,
        r#"REQUEST readFieldHash: expect ", but found }, error found in #8 byte of ...|{"a":1,}|..."#,
    ),
    (
        r#"{"a":1 "b":2}"#,
        r#"REQUEST isObjectEnd: object ended prematurely, unexpected char ", error found in #8 byte of ...|{"a":1 "b":2}|..."#,
    ),
    (
        "{\"a\":\"b\x01\"}",
        "REQUEST trySkipString: invalid control character found: 1, error found in #6 byte of ...|{\"a\":\"b\x01\"}|...",
    ),
    ("tru", "readObjectStart: expect { or n, but found t, error found in #1 byte of ...|tru|..."),
    (r#""abc"#, r#"readObjectStart: expect { or n, but found ", error found in #1 byte of ...|"abc|..."#),
    ("123", "readObjectStart: expect { or n, but found 1, error found in #1 byte of ...|123|..."),
];

#[test]
fn broken_json_is_told_in_lokis_words() {
    for (body, expected) in JSON {
        let told = complaint(PushFormat::Json, body.as_bytes());
        let (near, _) = told.split_once(", bigger context").unwrap_or((&told, ""));
        let expected = expected.replacen("REQUEST ", REQUEST, 1).replacen("STREAMS ", STREAMS, 1);
        assert_eq!(near, expected, "{body}");
    }
    let body = br#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","one"],["170000"#;
    assert_eq!(
        complaint(PushFormat::Json, body),
        format!(
            "{STREAMS}readStringSlowPath: unexpected end of input, error found in #10 byte of \
             ...|],[\"170000|..., bigger context \
             ...|}},\"values\":[[\"1700000000000000000\",\"one\"],[\"170000|..."
        )
    );
}

#[test]
fn a_cut_shows_no_more_than_the_reader_had() {
    for (padding, cut) in [
        (
            462,
            "#10 byte of ...|es\":[[1]]}]}|..., bigger context ...|yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\"},\"values\":[[1]]}]}|...",
        ),
        (470, "#4 byte of ...|1]]}]}|..., bigger context ...|1]]}]}|..."),
        (480, "#10 byte of ...|es\":[[1]]}]}|..., bigger context ...|values\":[[1]]}]}|..."),
    ] {
        let stream = "y".repeat(padding);
        let body = format!(r#"{{"streams":[{{"stream":{{"a":"{stream}"}},"values":[[1]]}}]}}"#);
        let told = complaint(PushFormat::Json, body.as_bytes());
        assert!(told.ends_with(cut), "{padding}: {told}");
    }
}

#[test]
fn broken_protobuf_is_told_in_the_words_of_generated_code() {
    for (body, push, otlp) in [
        (&b"\x0a\x05ab"[..], "unexpected EOF", "unexpected EOF"),
        (b"null", "proto: illegal wireType 6", "proto: illegal wireType 6"),
        (
            b"\x08\x01",
            "proto: wrong wireType = 0 for field Streams",
            "proto: wrong wireType = 0 for field ResourceLogs",
        ),
        (
            b"\x00\x00",
            "proto: PushRequest: illegal tag 0 (wire type 0)",
            "proto: Link: illegal field=0 (tag=0, pos=1)",
        ),
        (
            b"\x0a\x02\x08\x01",
            "proto: wrong wireType = 0 for field Labels",
            "proto: wrong wireType = 0 for field Resource",
        ),
        (
            b"\x0a\x04\x12\x02\x08\x01",
            "proto: wrong wireType = 0 for field Timestamp",
            "proto: wrong wireType = 0 for field Scope",
        ),
        (
            b"\x0a\x01\x0c",
            "proto: StreamAdapter: wiretype end group for non-group",
            "proto: wrong wireType = 4 for field Resource",
        ),
    ] {
        assert_eq!(complaint(PushFormat::Protobuf, body), push, "{body:?}");
        let told = decode_logs(OtlpFormat::Protobuf, body, &Enricher::default(), &Limits::default());
        assert_eq!(told.unwrap_err().to_string(), otlp, "{body:?}");
    }
}

proptest::proptest! {
    /// A body that is refused is refused in words, whatever it is cut from.
    #[test]
    fn no_cut_makes_it_panic(
        cut in 0usize..200,
        byte in proptest::num::u8::ANY,
        place in 0usize..200,
        padding in 0usize..600,
    ) {
        let whole = format!(
            r#"{{"streams":[{{"stream":{{"a":"{}"}},"values":[["1700000000000000000","x\u00e4",{{"m":"n"}}],["2","y"]]}}]}}"#,
            "z".repeat(padding)
        );
        let mut body = whole.into_bytes();
        if let Some(at) = body.get_mut(place) {
            *at = byte;
        }
        body.truncate(body.len().saturating_sub(cut));
        for format in [PushFormat::Json, PushFormat::Protobuf] {
            if let Err(e) = decode(format, &body, &Enricher::default(), &Limits::default()) {
                proptest::prop_assert!(!e.to_string().is_empty());
            }
        }
    }
}
