//! What is wrong with a protobuf body, in the words of the systems whose senders know them.
//!
//! Our own readers stop where they cannot go on and know little more than that. A body that one of
//! them has refused is walked once more along a list of its messages and fields, and the first
//! mistake is told as the generated code of Loki (gogoproto) or of the OpenTelemetry collector
//! (pdata) tells it. Nothing here decides whether a body is taken.

/// How deep messages are followed.
const DEPTH: usize = 64;

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Gogo,
    Pdata,
}

pub(crate) struct Message {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
}

pub(crate) struct Field {
    number: i32,
    name: &'static str,
    wire: u64,
    nested: Option<&'static Message>,
}

/// Fields by their wire type.
pub(crate) const fn number(number: i32, name: &'static str) -> Field {
    Field { number, name, wire: 0, nested: None }
}

pub(crate) const fn fixed64(number: i32, name: &'static str) -> Field {
    Field { number, name, wire: 1, nested: None }
}

pub(crate) const fn bytes(number: i32, name: &'static str) -> Field {
    Field { number, name, wire: 2, nested: None }
}

pub(crate) const fn nested(number: i32, name: &'static str, message: &'static Message) -> Field {
    Field { number, name, wire: 2, nested: Some(message) }
}

pub(crate) const fn fixed32(number: i32, name: &'static str) -> Field {
    Field { number, name, wire: 5, nested: None }
}

/// The text for a body, if anything is wrong with it.
pub(crate) fn complaint(dialect: Dialect, message: &Message, body: &[u8]) -> Option<String> {
    Walk { dialect, body, at: 0 }.message(message, DEPTH).err()
}

const CUT_OFF: &str = "unexpected EOF";

struct Walk<'b> {
    dialect: Dialect,
    body: &'b [u8],
    at: usize,
}

impl<'b> Walk<'b> {
    fn message(&mut self, message: &Message, depth: usize) -> Result<(), String> {
        while self.at < self.body.len() {
            let tag = self.varint()?;
            let (field, wire) = ((tag >> 3) as i32, tag & 7);
            if self.dialect == Dialect::Gogo && wire == 4 {
                return Err(format!("proto: {}: wiretype end group for non-group", message.name));
            }
            self.check_field(message, field, tag)?;
            match message.fields.iter().find(|known| known.number == field) {
                Some(known) if known.wire != wire => {
                    return Err(format!("proto: wrong wireType = {wire} for field {}", known.name));
                }
                Some(Field { nested: Some(inside), .. }) if depth > 0 => {
                    let body = self.delimited()?;
                    Walk { dialect: self.dialect, body, at: 0 }.message(inside, depth - 1)?;
                }
                _ => self.skip(wire)?,
            }
        }
        Ok(())
    }

    fn check_field(&self, message: &Message, field: i32, tag: u64) -> Result<(), String> {
        match self.dialect {
            _ if field > 0 => Ok(()),
            Dialect::Gogo => Err(format!("proto: {}: illegal tag {field} (wire type {tag})", message.name)),
            Dialect::Pdata => Err(format!("proto: Link: illegal field={field} (tag={tag}, pos={})", self.at)),
        }
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.body.get(self.at).ok_or(CUT_OFF)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("proto: integer overflow".to_owned())
    }

    fn delimited(&mut self) -> Result<&'b [u8], String> {
        let length = self.varint()?;
        if length > i64::MAX as u64 {
            return Err("proto: negative length found during unmarshaling".to_owned());
        }
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let from = self.at;
        self.at = end.filter(|end| *end <= self.body.len()).ok_or(CUT_OFF)?;
        Ok(self.body.get(from..self.at).unwrap_or(&[]))
    }

    fn advance(&mut self, bytes: usize) -> Result<(), String> {
        self.at += bytes;
        if self.at > self.body.len() { Err(CUT_OFF.to_owned()) } else { Ok(()) }
    }

    fn skip(&mut self, wire: u64) -> Result<(), String> {
        let (mut wire, mut open) = (wire, 0usize);
        loop {
            match wire {
                0 => drop(self.varint()?),
                1 => self.advance(8)?,
                2 => drop(self.delimited()?),
                3 => open += 1,
                4 => open = open.checked_sub(1).ok_or("proto: unexpected end of group")?,
                5 => self.advance(4)?,
                wire => return Err(format!("proto: illegal wireType {wire}")),
            }
            if open == 0 {
                return Ok(());
            }
            wire = self.varint()? & 7;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static INNER: Message = Message { name: "Inner", fields: &[number(1, "Count"), fixed32(2, "Small")] };
    static OUTER: Message = Message {
        name: "Outer",
        fields: &[nested(1, "Inner", &INNER), bytes(2, "Text"), fixed64(3, "Time")],
    };

    #[test]
    fn the_first_mistake_is_told_in_each_dialect() {
        for (body, gogo, pdata) in [
            (&b""[..], None, None),
            (b"\x0a\x02\x08\x05\x12\x01a\x19\0\0\0\0\0\0\0\0\x78\x01", None, None),
            (b"\x0a\x05ab", Some("unexpected EOF"), Some("unexpected EOF")),
            (b"\x0a", Some("unexpected EOF"), Some("unexpected EOF")),
            (b"\x19\0\0", Some("unexpected EOF"), Some("unexpected EOF")),
            (
                b"\x08\x05",
                Some("proto: wrong wireType = 0 for field Inner"),
                Some("proto: wrong wireType = 0 for field Inner"),
            ),
            (
                b"\x0a\x03\x0a\x01a",
                Some("proto: wrong wireType = 2 for field Count"),
                Some("proto: wrong wireType = 2 for field Count"),
            ),
            (
                b"\x0a\x02\x00\x00",
                Some("proto: Inner: illegal tag 0 (wire type 0)"),
                Some("proto: Link: illegal field=0 (tag=0, pos=1)"),
            ),
            (
                b"\x24",
                Some("proto: Outer: wiretype end group for non-group"),
                Some("proto: unexpected end of group"),
            ),
            (b"\x26", Some("proto: illegal wireType 6"), Some("proto: illegal wireType 6")),
            (b"\x23\x28\x01\x24", None, None),
            (b"\x23\x28\x01", Some("unexpected EOF"), Some("unexpected EOF")),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                Some("proto: integer overflow"),
                Some("proto: integer overflow"),
            ),
            (
                b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                Some("proto: negative length found during unmarshaling"),
                Some("proto: negative length found during unmarshaling"),
            ),
        ] {
            assert_eq!(complaint(Dialect::Gogo, &OUTER, body).as_deref(), gogo, "{body:?}");
            assert_eq!(complaint(Dialect::Pdata, &OUTER, body).as_deref(), pdata, "{body:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let _ = complaint(Dialect::Gogo, &OUTER, &body);
            let _ = complaint(Dialect::Pdata, &OUTER, &body);
        }
    }
}
