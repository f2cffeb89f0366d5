//! Go's `fmt.Sprintf` over the values of templates. The engine's own knows neither types nor
//! times and takes floats for integers.

use std::fmt::Write as _;

use gotmpl::Value;
use pilothouse_model::labels::quote;
use pilothouse_model::limits::TEMPLATE_WIDTH;
use pilothouse_model::sample::format_float_general;

use super::bounded::{LONGEST, check};
use super::text_arg;
use super::texts::plain;
use super::times::Time;

/// How one operand is written.
#[derive(Default, Clone, Copy)]
struct Spec {
    left: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// The operands, and how far they were used up.
struct Operands<'v> {
    values: &'v [Value],
    at: usize,
    reordered: bool,
}

/// The function `printf`.
pub(super) fn printf(args: &[Value]) -> Result<Value, gotmpl::TemplateError> {
    let format = text_arg(args, 0)?;
    let text = sprintf(format, &args[1..]);
    check(text.len())?;
    Ok(Value::String(text.into()))
}

/// The text of a format and its operands. What does not fit is told in the text, as Go does.
pub fn sprintf(format: &str, values: &[Value]) -> String {
    let mut out = String::with_capacity(format.len() + 16 * values.len());
    let mut operands = Operands { values, at: 0, reordered: false };
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        // Templates refuse it then, and nobody else has formats of that size.
        if out.len() > LONGEST {
            break;
        }
        out.push_str(&rest[..percent]);
        rest = directive(&rest[percent + 1..], &mut operands, &mut out);
    }
    out.push_str(rest);
    if !operands.reordered && operands.at < values.len() {
        let extra: Vec<String> = values[operands.at..].iter().map(typed).collect();
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

/// One directive behind its percent sign; gives what follows it.
fn directive<'f>(format: &'f str, operands: &mut Operands<'_>, out: &mut String) -> &'f str {
    let mut spec = Spec::default();
    let mut rest = format;
    while let Some(flag) = rest.chars().next() {
        match flag {
            '-' => spec.left = true,
            '+' => spec.plus = true,
            '#' => spec.sharp = true,
            ' ' => spec.space = true,
            '0' => spec.zero = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    let mut good = operands.index(&mut rest);
    match length(&mut rest, operands) {
        Length::Given(width) => {
            spec.left |= width < 0;
            spec.width = Some((width.unsigned_abs() as usize).min(TEMPLATE_WIDTH));
        }
        Length::Bad => out.push_str("%!(BADWIDTH)"),
        Length::Absent => {}
    }
    if let Some(tail) = rest.strip_prefix('.') {
        rest = tail;
        good &= operands.index(&mut rest);
        match length(&mut rest, operands) {
            Length::Given(precision) if precision >= 0 => {
                spec.precision = Some((precision as usize).min(TEMPLATE_WIDTH));
            }
            Length::Absent => spec.precision = Some(0),
            _ => out.push_str("%!(BADPREC)"),
        }
    }
    good &= operands.index(&mut rest);
    let Some(verb) = rest.chars().next() else {
        out.push_str("%!(NOVERB)");
        return "";
    };
    rest = &rest[verb.len_utf8()..];
    if verb == '%' {
        out.push('%');
    } else if !good {
        let _ = write!(out, "%!{verb}(BADINDEX)");
    } else if let Some(value) = operands.next() {
        spec.write(verb, value, out);
    } else {
        let _ = write!(out, "%!{verb}(MISSING)");
    }
    rest
}

enum Length {
    Absent,
    Given(i64),
    Bad,
}

/// A width or a precision: digits, or a star for the next operand.
fn length(rest: &mut &str, operands: &mut Operands<'_>) -> Length {
    if let Some(tail) = rest.strip_prefix('*') {
        *rest = tail;
        return match operands.next() {
            Some(Value::Int(n)) => Length::Given(*n),
            _ => Length::Bad,
        };
    }
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 {
        return Length::Absent;
    }
    let (number, tail) = rest.split_at(digits);
    *rest = tail;
    number.parse().map_or(Length::Bad, Length::Given)
}

impl<'v> Operands<'v> {
    fn next(&mut self) -> Option<&'v Value> {
        let value = self.values.get(self.at)?;
        self.at += 1;
        Some(value)
    }

    /// Reads `[n]`, which names the next operand, if it is there; `false` if there is no such one.
    fn index(&mut self, rest: &mut &str) -> bool {
        let Some((number, tail)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) else {
            return true;
        };
        *rest = tail;
        self.reordered = true;
        match number.parse::<usize>() {
            Ok(n) if (1..=self.values.len()).contains(&n) => {
                self.at = n - 1;
                true
            }
            _ => false,
        }
    }
}

impl Spec {
    fn write(&self, verb: char, value: &Value, out: &mut String) {
        if verb == 'T' {
            return self.pad(type_name(value), false, out);
        }
        // With `%v` a plus asks for names of fields, of which there are none.
        if verb == 'v' && self.plus {
            return Self { plus: false, ..*self }.write(verb, value, out);
        }
        match value {
            Value::Nil if verb == 'v' => self.pad("<nil>", false, out),
            Value::Bool(b) if matches!(verb, 't' | 'v') => self.pad(&b.to_string(), false, out),
            Value::Int(n) => self.integer(verb, *n < 0, n.unsigned_abs(), value, out),
            Value::Uint(n) => self.integer(verb, false, *n, value, out),
            Value::Float(f) => self.float(verb, *f, value, out),
            Value::String(text) => self.text(verb, text, value, out),
            Value::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { " " } else { "" });
                    self.write(verb, item, out);
                }
                out.push(']');
            }
            Value::Map(map) => match Time::from_value(value) {
                Some(_) if matches!(verb, 'v' | 's' | 'q') => self.text(verb, &plain(value), value, out),
                Some(_) => bad(verb, value, out),
                None => {
                    out.push_str("map[");
                    for (i, (key, item)) in map.iter().enumerate() {
                        out.push_str(if i > 0 { " " } else { "" });
                        self.text(verb, key, &Value::String(key.clone()), out);
                        out.push(':');
                        self.write(verb, item, out);
                    }
                    out.push(']');
                }
            },
            _ => bad(verb, value, out),
        }
    }

    fn text(&self, verb: char, text: &str, value: &Value, out: &mut String) {
        let cut = match self.precision {
            Some(most) if matches!(verb, 's' | 'v' | 'q') => {
                text.char_indices().nth(most).map_or(text, |(at, _)| &text[..at])
            }
            Some(most) => text.get(..most).unwrap_or(text),
            None => text,
        };
        match verb {
            'v' if self.sharp => self.pad(&quote(cut), false, out),
            's' | 'v' => self.pad(cut, false, out),
            'q' if self.sharp
                && !cut.contains(['`', '\u{feff}'])
                && !cut.contains(|c: char| c.is_control()) =>
            {
                self.pad(&format!("`{cut}`"), false, out);
            }
            'q' => self.pad(&quote(cut), false, out),
            'x' | 'X' => {
                let digits =
                    cut.bytes().map(|b| if verb == 'x' { format!("{b:02x}") } else { format!("{b:02X}") });
                let digits: Vec<String> = digits.collect();
                let mark = if self.sharp { format!("0{verb}") } else { String::new() };
                let shown = match self.space {
                    true => digits.iter().map(|d| format!("{mark}{d}")).collect::<Vec<_>>().join(" "),
                    false => format!("{mark}{}", digits.concat()),
                };
                self.pad(&shown, false, out);
            }
            _ => bad(verb, value, out),
        }
    }

    fn integer(&self, verb: char, negative: bool, n: u64, value: &Value, out: &mut String) {
        let digits = match verb {
            'd' | 'v' => n.to_string(),
            'x' => format!("{}{n:x}", if self.sharp { "0x" } else { "" }),
            'X' => format!("{}{n:X}", if self.sharp { "0X" } else { "" }),
            'o' => format!("{}{n:o}", if self.sharp { "0" } else { "" }),
            'O' => format!("0o{n:o}"),
            'b' => format!("{}{n:b}", if self.sharp { "0b" } else { "" }),
            'c' | 'q' | 'U' => return self.letter(verb, negative, n, out),
            _ => return bad(verb, value, out),
        };
        let digits = match self.precision {
            Some(least) => format!("{digits:0>least$}"),
            None => digits,
        };
        self.pad(&format!("{}{digits}", self.sign(negative)), self.precision.is_none(), out);
    }

    fn letter(&self, verb: char, negative: bool, n: u64, out: &mut String) {
        let letter = u32::try_from(n).ok().filter(|_| !negative).and_then(char::from_u32);
        let shown = match verb {
            'c' => letter.unwrap_or(char::REPLACEMENT_CHARACTER).to_string(),
            'q' => format!("'{}'", letter.unwrap_or(char::REPLACEMENT_CHARACTER).escape_default()),
            _ => format!("U+{:04X}", if negative { n.wrapping_neg() } else { n }),
        };
        self.pad(&shown, false, out);
    }

    fn float(&self, verb: char, f: f64, value: &Value, out: &mut String) {
        let size = f.abs();
        let digits = match (verb, self.precision) {
            _ if !"vgGeEfF".contains(verb) => return bad(verb, value, out),
            _ if !f.is_finite() => format_float_general(size).trim_start_matches('+').to_owned(),
            ('v' | 'g' | 'G', None) => format_float_general(size),
            ('v' | 'g' | 'G', Some(precision)) => general(size, precision.max(1)),
            ('e' | 'E', precision) => scientific(size, precision.unwrap_or(6)),
            (_, precision) => format!("{size:.*}", precision.unwrap_or(6)),
        };
        let digits = if matches!(verb, 'G' | 'E') { digits.to_uppercase() } else { digits };
        // Go writes the sign of infinity always.
        let sign = match (f.is_infinite(), self.sign(f.is_sign_negative() && !f.is_nan())) {
            (true, "") => "+",
            (_, sign) => sign,
        };
        self.pad(&format!("{sign}{digits}"), f.is_finite(), out);
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    /// Fills up to the width; numbers may take zeros, behind their sign.
    fn pad(&self, text: &str, number: bool, out: &mut String) {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.left {
            out.push_str(text);
            out.extend(std::iter::repeat_n(' ', missing));
        } else if self.zero && number {
            let digits = text.trim_start_matches(['+', '-', ' ']);
            out.push_str(&text[..text.len() - digits.len()]);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(digits);
        } else {
            out.extend(std::iter::repeat_n(' ', missing));
            out.push_str(text);
        }
    }
}

/// `1.500000e+07`: at least two digits of exponent.
fn scientific(size: f64, precision: usize) -> String {
    let shown = format!("{size:.precision$e}");
    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// So many significant digits, with an exponent where the number is very small or longer.
fn general(size: f64, precision: usize) -> String {
    let shown = format!("{size:.*e}", precision - 1);
    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0').len().max(1) as i32;
    let most = if precision as i32 > digits && digits > exponent { digits } else { precision as i32 };
    if exponent < -4 || exponent >= most {
        return scientific(size, (digits - 1) as usize);
    }
    format!("{size:.*}", (digits - 1 - exponent).max(0) as usize)
}

fn bad(verb: char, value: &Value, out: &mut String) {
    let _ = write!(out, "%!{verb}({})", typed(value));
}

/// A value with its type in front: `float64=1.5`.
fn typed(value: &Value) -> String {
    match value {
        Value::Nil => "<nil>".to_owned(),
        value => format!("{}={}", type_name(value), super::display(value)),
    }
}

/// The name of the type that the value has in Go.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) if Time::from_value(value).is_some() => "time.Time",
        Value::Map(_) => "map[string]interface {}",
        _ => "func()",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    #[test]
    fn formats_are_written_as_go_does() {
        let list = Value::List(vec![text("a"), Value::Float(1.0)].into());
        for (format, values, expected) in [
            ("%s-%v", vec![text("a"), Value::Int(5)], "a-5"),
            ("%v %v %v", vec![Value::Float(1.5e6), Value::Float(0.1), Value::Nil], "1.5e+06 0.1 <nil>"),
            ("%5d|%-5d|%05d|%+d|% d", vec![Value::Int(42); 5], "   42|42   |00042|+42| 42"),
            ("%x %X %o %b %#x %c %U", vec![Value::Int(233); 7], "e9 E9 351 11101001 0xe9 \u{e9} U+00E9"),
            ("%8.3f|%-8.2f|%08.3f", vec![Value::Float(3.25159); 3], "   3.252|3.25    |0003.252"),
            ("%e %G %.3g %.3g", vec![Value::Float(12345.678); 4], "1.234568e+04 12345.678 1.23e+04 1.23e+04"),
            ("%.3g %g", vec![Value::Float(0.5), Value::Float(1e21)], "0.5 1e+21"),
            ("%q %#q %x % x %X", vec![text("hi"); 5], "\"hi\" `hi` 6869 68 69 6869"),
            ("%10s|%-10s|%.2s|%5.1s", vec![text("abc"); 4], "       abc|abc       |ab|    a"),
            (
                "%T %T %T %T",
                vec![text("a"), Value::Int(1), Value::Float(1.0), Value::Bool(true)],
                "string int float64 bool",
            ),
            ("%d", vec![Value::Float(1.5)], "%!d(float64=1.5)"),
            ("%f", vec![Value::Int(1)], "%!f(int=1)"),
            ("%d %s", vec![text("a"), Value::Int(5)], "%!d(string=a) %!s(int=5)"),
            ("%s %d", vec![list.clone(), list], "[a %!s(float64=1)] [%!d(string=a) %!d(float64=1)]"),
            ("%s %s", vec![text("x")], "x %!s(MISSING)"),
            ("%d", vec![Value::Int(1), Value::Int(2)], "1%!(EXTRA int=2)"),
            ("%[2]d %[1]d", vec![Value::Int(1), Value::Int(2)], "2 1"),
            ("%[5]d", vec![Value::Int(1)], "%!d(BADINDEX)"),
            ("%*d", vec![Value::Int(5), Value::Int(42)], "   42"),
            ("%#v %+v", vec![text("x"), Value::Float(1.5)], "\"x\" 1.5"),
            ("100%", vec![], "100%!(NOVERB)"),
            ("%%|%!|%z", vec![Value::Int(1), Value::Int(1)], "%|%!!(int=1)|%!z(int=1)"),
            ("%t %v", vec![Value::Bool(true), Value::Bool(false)], "true false"),
            (
                "%v",
                vec![Time::from_ns(1_679_577_215_000_000_000).to_value()],
                "2023-03-23 13:13:35 +0000 UTC",
            ),
        ] {
            assert_eq!(sprintf(format, &values), expected, "{format}");
        }
    }
}
