//! JSON by hand: the few shapes that must be fast or exact.

use pilothouse_model::Labels;

/// Appends a JSON string.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends the inside of a JSON string. What needs no escape is copied in runs.
fn push_escaped(out: &mut String, text: &str) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(text.get(from..at).unwrap_or(""));
        from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                out.push_str("\\u00");
                for digit in [control >> 4, control & 15] {
                    out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                }
            }
        }
    }
    out.push_str(text.get(from..).unwrap_or(""));
}

/// Appends an object of a label set.
pub(crate) fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

/// Appends a list, each element by `element`.
pub(crate) fn push_list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut element: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        element(out, item);
    }
    out.push(']');
}

/// Appends a whole number.
pub(crate) fn push_integer(out: &mut String, value: i64) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), value.unsigned_abs());
    loop {
        at -= 1;
        if let Some(slot) = digits.get_mut(at) {
            *slot = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(digits.get(at..).and_then(|d| std::str::from_utf8(d).ok()).unwrap_or("0"));
}

/// Appends milliseconds as seconds with up to three decimals.
pub(crate) fn push_seconds(out: &mut String, t_ms: i64) {
    let (whole, part) = (t_ms / 1000, (t_ms % 1000).unsigned_abs());
    if t_ms < 0 && whole == 0 {
        out.push('-');
    }
    push_integer(out, whole);
    if part != 0 {
        out.push('.');
        let digits = [b'0' + (part / 100) as u8, b'0' + (part / 10 % 10) as u8, b'0' + (part % 10) as u8];
        let length = if part % 100 == 0 {
            1
        } else if part % 10 == 0 {
            2
        } else {
            3
        };
        out.extend(digits.iter().take(length).map(|d| char::from(*d)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(push: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }

    #[test]
    fn seconds_have_up_to_three_decimals() {
        for (ms, text) in [
            (0, "0"),
            (1_700_000_000_000, "1700000000"),
            (1_500, "1.5"),
            (1_050, "1.05"),
            (1_001, "1.001"),
            (-1_500, "-1.5"),
            (-500, "-0.5"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(made(|o| push_seconds(o, ms)), text);
        }
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(made(|o| push_string(o, "a\"b\\c\nd\u{1}é\u{7f}")), "\"a\\\"b\\\\c\\nd\\u0001é\u{7f}\"");
        assert_eq!(made(|o| push_labels(o, &Labels::empty())), "{}");
    }
}
