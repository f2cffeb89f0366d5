//! Checks as JSON, as messages of the protocol, and as a configuration declares them.
//!
//! Strategy: the first byte chooses the form that the rest is read in.
//! Invariants: never a panic, however wrong a check is; what was read is the same after the other
//! form; what a list shows of it can be read again.

use pilothouse_probes::declared;
use pilothouse_probes::validate::{self, LabelRules};
use pilothouse_probes::words::{Check, read_json};
use prost::Message as _;

const RULES: LabelRules = LabelRules { max_labels: 5, max_bytes: 32 };

pub fn run(data: &[u8]) {
    let Some((form, rest)) = data.split_first() else { return };
    let check = match form % 3 {
        0 => read_json::<Check>(rest).ok(),
        1 => Check::decode(rest).ok(),
        _ => {
            let document = serde_json::from_slice(rest).ok();
            document.and_then(|document| declared::read(document).ok()).map(|declared| declared.check)
        }
    };
    let Some(check) = check else { return };
    let holds = validate::check(&check, RULES).is_ok();
    // Not a number is equal to nothing, itself included.
    if check.modified.is_nan() || check.created.is_nan() {
        return;
    }
    let again = Check::decode(check.encode_to_vec().as_slice()).unwrap();
    assert_eq!(again, check);
    let shown = serde_json::to_vec(&check.masked());
    if holds && let Ok(shown) = shown {
        assert!(validate::check(&read_json(&shown).unwrap(), RULES).is_ok());
    }
}
