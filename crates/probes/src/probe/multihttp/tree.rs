//! Looking into a body as JSON or HTML: what is made of it takes many times its length, and is booked
//! while it is there.

use pilothouse_model::NoMemory;
use scraper::Selector;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::inspected::Inspected;
use super::page;
use crate::validate::is_shallow;

/// A value in a list or a map: its place in a list that has room to grow, and was copied as it grew;
/// or in a half-full leaf of a map with the text of its name; a text of its own.
const VALUE_BYTES: u64 = 192;
/// What an object takes as soon as it has one value: a map has room for eleven in its smallest leaf.
const OBJECT_BYTES: u64 = 720;
/// A value that was found, in the list of one step of a path and in that of the next.
const FOUND_BYTES: u64 = 48;

/// What `look` makes of what a JSONPath finds; of nothing where body or path do not read.
pub(super) fn json<T>(
    path: &str,
    inspected: &mut Inspected,
    look: impl FnOnce(&[&Value]) -> T,
) -> Result<T, NoMemory> {
    let in_time = !inspected.is_late();
    let text = Some(path).filter(|path| in_time && is_shallow(path));
    let Some(parsed) = text.and_then(|path| JsonPath::parse(path).ok()) else { return Ok(look(&[])) };
    let bytes = json_bytes(path, &inspected.answer.body);
    inspected.answer.held.grow(bytes)?;
    let done = match serde_json::from_slice::<Value>(&inspected.answer.body) {
        Ok(document) => look(&parsed.query(&document).all()),
        Err(_) => look(&[]),
    };
    inspected.answer.held.shrink(bytes);
    Ok(done)
}

/// At least what a document takes as a tree, and what a path finds in it. Texts are copied out of the
/// body; brackets and commas within them count as if they were none.
fn json_bytes(path: &str, body: &[u8]) -> u64 {
    let (mut values, mut objects, mut depth, mut deepest) = (1_u64, 0_u64, 0_u64, 1_u64);
    for byte in body {
        match byte {
            b'{' => objects += 1,
            b',' | b'[' => values += 1,
            _ => {}
        }
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    let found = (values + objects).saturating_mul(repeats(path, deepest)).saturating_mul(FOUND_BYTES);
    let tree = body.len() as u64 + values * VALUE_BYTES + objects * OBJECT_BYTES;
    tree.saturating_add(found)
}

/// How often a path can find the same value: `..` finds what lies below each value that the step before
/// it found, and who is listed twice is found twice.
fn repeats(path: &str, depth: u64) -> u64 {
    let descents = path.matches("..").count();
    let deep = (1..descents).fold(1_u64, |times, _| times.saturating_mul(depth));
    path.split('[').fold(deep, |times, step| times.saturating_mul(1 + step.matches(',').count() as u64))
}

/// The content of the first element that a CSS selector finds, or one of its attributes.
pub(super) fn element(
    selector: &str,
    attribute: &str,
    inspected: &mut Inspected,
) -> Result<Option<String>, NoMemory> {
    let parsed = Some(selector).filter(|text| is_shallow(text)).and_then(|text| Selector::parse(text).ok());
    let Some(selector) = parsed else { return Ok(None) };
    let deadline = inspected.deadline;
    let (text, held) = inspected.text()?;
    let mut booked = page::Booked::new(held);
    let Some(document) = page::read(text, &mut booked, deadline)? else { return Ok(None) };
    let found = page::first(&document, &selector, deadline);
    Ok(found.and_then(|element| match attribute {
        "" => Some(element.inner_html()),
        name => element.value().attr(name).map(str::to_owned),
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pilothouse_model::memory::Part;

    use super::*;

    /// What a value takes beside itself, where a map is a B-tree of leaves of eleven that are half full
    /// at least, an allocation takes 32 bytes at least, and a list was copied as it grew.
    fn taken(value: &Value) -> usize {
        const LEAF: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
        match value {
            Value::String(text) => text.len().max(32),
            Value::Array(values) => {
                values.capacity() * size_of::<Value>() * 3 / 2 + values.iter().map(taken).sum::<usize>()
            }
            Value::Object(map) => {
                let leaves = map.len().div_ceil(5);
                let inner = leaves.saturating_sub(1).div_ceil(5) * (LEAF + 12 * 8);
                let texts: usize = map.iter().map(|(name, value)| name.len().max(32) + taken(value)).sum();
                leaves * LEAF + inner + texts
            }
            _ => 0,
        }
    }

    #[test]
    fn a_document_never_takes_more_than_is_booked() {
        let many = |one: &str, n: usize| format!("[{}]", vec![one; n].join(","));
        let names = (0..5_000).map(|i| format!(r#""{i}":{i}"#)).collect::<Vec<_>>().join(",");
        for body in [
            many(r#"{"a":1}"#, 5_000),
            many(r#"{"a":"b"}"#, 5_000),
            many("{}", 5_000),
            many("1", 4_097),
            many(r#""""#, 4_097),
            many("[1]", 5_000),
            many(r#"{"a":{"b":{"c":[{}]}}}"#, 1_000),
            format!("{}{}", "[".repeat(120), "]".repeat(120)),
            format!("{{{names}}}"),
            "7".to_owned(),
        ] {
            let document: Value = serde_json::from_str(&body).unwrap();
            let (taken, booked) = (taken(&document) as u64, json_bytes("$", body.as_bytes()));
            assert!(taken <= booked, "{taken} of {booked}: {body:.40}");
        }
    }

    #[test]
    fn a_path_that_finds_values_over_and_over_is_booked_so() {
        let body = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let document: Value = serde_json::from_str(&body).unwrap();
        for path in ["$..*", "$..*..*", "$..*..*..*", "$[*,*][*,*][*,*,*]", "$..[*,*]"] {
            let found = JsonPath::parse(path).unwrap().query(&document).all().len() as u64;
            assert!(found * FOUND_BYTES <= json_bytes(path, body.as_bytes()), "{path}: {found}");
        }
    }

    #[test]
    fn nothing_is_found_once_the_run_is_over() {
        let (mut inspected, memory) = Inspected::of("[1]");
        assert_eq!(json("$[0]", &mut inspected, |found| found.len()), Ok(1));
        inspected.deadline = Instant::now();
        assert_eq!(json("$[0]", &mut inspected, |found| found.len()), Ok(0));
        assert_eq!(memory.held_bytes(Part::Requests), 0);
    }
}
