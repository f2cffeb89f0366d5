//! Looking into a body as JSON or HTML: what is made of it takes many times its length, and is booked
//! while it is there.

use pilothouse_model::NoMemory;
use scraper::{Html, Selector};
use serde_json::Value;
use serde_json_path::JsonPath;

use crate::probe::http::{Answer, text};
use crate::validate::is_shallow;

/// What a value takes in its list or map, which have room to grow.
const VALUE_BYTES: u64 = 96;
/// What an element takes with its name, its attributes' list and a text behind it.
const ELEMENT_BYTES: u64 = 448;

/// What `look` makes of what a JSONPath finds; of nothing where body or path do not read.
pub(super) fn json<T>(
    path: &str,
    answer: &mut Answer,
    look: impl FnOnce(&[&Value]) -> T,
) -> Result<T, NoMemory> {
    let parsed = Some(path).filter(|path| is_shallow(path)).and_then(|path| JsonPath::parse(path).ok());
    let Some(path) = parsed else { return Ok(look(&[])) };
    let begins_a_value = |byte: &&u8| matches!(byte, b',' | b'[' | b'{');
    booked(answer, begins_a_value, VALUE_BYTES, |answer| match serde_json::from_slice(&answer.body) {
        Ok(document) => {
            let document: Value = document;
            look(&path.query(&document).all())
        }
        Err(_) => look(&[]),
    })
}

/// The content of the first element that a CSS selector finds, or one of its attributes.
pub(super) fn element(
    selector: &str,
    attribute: &str,
    answer: &mut Answer,
) -> Result<Option<String>, NoMemory> {
    let parsed = Some(selector).filter(|text| is_shallow(text)).and_then(|text| Selector::parse(text).ok());
    let Some(selector) = parsed else { return Ok(None) };
    let begins_an_element = |byte: &&u8| **byte == b'<';
    booked(answer, begins_an_element, ELEMENT_BYTES, |answer| {
        let document = Html::parse_document(&text(&answer.body, &mut answer.held)?);
        let found = document.select(&selector).next();
        Ok(found.and_then(|element| match attribute {
            "" => Some(element.inner_html()),
            name => element.value().attr(name).map(str::to_owned),
        }))
    })?
}

/// Does something with room for a tree of the body, whose nodes are counted before it is made.
fn booked<T>(
    answer: &mut Answer,
    begins_a_node: impl Fn(&&u8) -> bool,
    node_bytes: u64,
    work: impl FnOnce(&mut Answer) -> T,
) -> Result<T, NoMemory> {
    let nodes = answer.body.iter().filter(begins_a_node).count() as u64;
    // Texts are copied out of the body.
    let bytes = answer.body.len() as u64 + nodes * node_bytes;
    answer.held.grow(bytes)?;
    let done = work(answer);
    answer.held.shrink(bytes);
    Ok(done)
}
