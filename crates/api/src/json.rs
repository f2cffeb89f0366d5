//! JSON by hand: the few shapes that must be fast or exact.

use jiff::Timestamp;
use pilothouse_model::Labels;
use pilothouse_model::sample::push_float;

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

/// Appends an object, whose members are written in the order in which they are named.
pub(crate) fn push_object(out: &mut String, members: impl FnOnce(&mut Object<'_>)) {
    out.push('{');
    members(&mut Object { out, is_empty: true });
    out.push('}');
}

/// See [`push_object`].
pub(crate) struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl Object<'_> {
    pub(crate) fn member(&mut self, name: &str, value: impl FnOnce(&mut String)) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
        push_string(self.out, name);
        self.out.push(':');
        value(self.out);
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.member(name, |out| push_string(out, text));
    }

    pub(crate) fn texts<'t>(&mut self, members: impl IntoIterator<Item = (&'t str, &'t str)>) {
        members.into_iter().for_each(|(name, text)| self.text(name, text));
    }

    pub(crate) fn flag(&mut self, name: &str, flag: bool) {
        self.member(name, |out| out.push_str(if flag { "true" } else { "false" }));
    }

    pub(crate) fn integer(&mut self, name: &str, value: i64) {
        self.member(name, |out| push_integer(out, value));
    }

    pub(crate) fn natural(&mut self, name: &str, value: u64) {
        self.integer(name, i64::try_from(value).unwrap_or(i64::MAX));
    }

    pub(crate) fn count(&mut self, name: &str, count: usize) {
        self.natural(name, count as u64);
    }

    /// A number as Prometheus prints floats.
    pub(crate) fn float(&mut self, name: &str, value: f64) {
        self.member(name, |out| push_float(out, value));
    }

    /// A time as Go writes it; what never was is Go's zero time.
    pub(crate) fn time(&mut self, name: &str, t_ms: Option<i64>) {
        let time = t_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        match time {
            Some(time) => self.text(name, &time.to_string()),
            None => self.text(name, "0001-01-01T00:00:00Z"),
        }
    }

    pub(crate) fn labels(&mut self, name: &str, labels: &Labels) {
        self.member(name, |out| push_labels(out, labels));
    }

    pub(crate) fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        self.member(name, |out| push_object(out, members));
    }

    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        element: impl FnMut(&mut String, T),
    ) {
        self.member(name, |out| push_list(out, items, element));
    }

    /// `null` where there is no value.
    pub(crate) fn optional<T>(&mut self, name: &str, value: Option<T>, write: impl FnOnce(&mut String, T)) {
        self.member(name, |out| match value {
            Some(value) => write(out, value),
            None => out.push_str("null"),
        });
    }
}

/// Appends an object of a label set.
pub(crate) fn push_labels(out: &mut String, labels: &Labels) {
    push_object(out, |object| object.texts(labels.iter()));
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
        assert_eq!(
            made(|o| push_labels(o, &Labels::from_pairs([("b", "2"), ("a", "\"")]))),
            r#"{"a":"\"","b":"2"}"#
        );
    }

    #[test]
    fn objects_have_their_members_in_order() {
        let object = made(|out| {
            push_object(out, |object| {
                object.object("o", |_| {});
                object.list("l", [1, 2], push_integer);
                object.optional("n", None::<i64>, push_integer);
                object.flag("f", true);
                object.float("x", 1.5);
                object.time("t", Some(1_500));
                object.time("never", None);
                object.count("c", usize::MAX);
            });
        });
        let expected = r#"{"o":{},"l":[1,2],"n":null,"f":true,"x":1.5,"t":"1970-01-01T00:00:01.5Z","#;
        let rest = r#""never":"0001-01-01T00:00:00Z","c":9223372036854775807}"#;
        assert_eq!(object, format!("{expected}{rest}"));
    }
}
