//! Go's layouts: a time written by example, as `2006-01-02 15:04:05`, both ways.

use pilothouse_model::time::{civil, days_from_civil, days_in_month};

use super::times::Time;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const DAY_S: i64 = 86_400;

/// What clocks that show `time` show in a layout; `zone` writes the fields that name a zone.
pub(super) fn text(time: Time, layout: &str, zone: impl Fn(&str) -> String) -> String {
    let clock = Clock::of(time);
    let mut out = String::new();
    each_part(layout, |part| match part {
        Part::Text(text) => out.push_str(text),
        Part::Field(field) if ZONE_FIELDS.contains(&field) => out.push_str(&zone(field)),
        Part::Field(field) => clock.push(field, &mut out),
    });
    out
}

/// Reads a text by a layout as Go's `time.Parse`: the time, and the offset in seconds that the
/// text names; a layout without a zone means UTC.
pub(super) fn read(layout: &str, text: &str) -> Option<(Time, i64)> {
    let mut reading = Reading { clock: Clock::default(), offset_s: 0, afternoon: None };
    let (mut rest, mut good) = (text, true);
    each_part(layout, |part| {
        let tail = match part {
            Part::Text(literal) => rest.strip_prefix(literal),
            Part::Field(field) => reading.field(field, rest),
        };
        match tail {
            Some(tail) if good => rest = tail,
            _ => good = false,
        }
        // Go takes a fraction behind the seconds though the layout has none.
        if let Part::Field("05" | "5") = part
            && let Some((nanos, tail)) = rest.strip_prefix('.').and_then(fraction)
            && !layout.contains("05.")
        {
            reading.clock.nanos = nanos;
            rest = tail;
        }
    });
    let mut clock = reading.clock;
    if let Some(afternoon) = reading.afternoon {
        clock.hour = clock.hour % 12 + if afternoon { 12 } else { 0 };
    }
    if !good || !rest.is_empty() || !clock.is_valid() {
        return None;
    }
    let time = Time { seconds: clock.unix_seconds() - reading.offset_s, nanos: clock.nanos };
    Some((time, reading.offset_s))
}

/// What a calendar and a clock show.
#[derive(Clone, Copy)]
struct Clock {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// From 1.
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: u32,
}

impl Default for Clock {
    fn default() -> Self {
        Self { year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanos: 0 }
    }
}

impl Clock {
    fn of(time: Time) -> Self {
        let second = time.seconds.rem_euclid(DAY_S);
        let (year, month, day) = civil(time.seconds.div_euclid(DAY_S));
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        Self { year, month, day, hour, minute, second, nanos: time.nanos }
    }

    /// Days since 1970.
    fn days(&self) -> i64 {
        days_from_civil(self.year, self.month, self.day)
    }

    fn unix_seconds(&self) -> i64 {
        self.days() * DAY_S + self.hour * 3_600 + self.minute * 60 + self.second
    }

    fn is_valid(&self) -> bool {
        (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
    }

    fn push(&self, field: &str, out: &mut String) {
        let named =
            |names: &[&'static str], i: i64| usize::try_from(i).ok().and_then(|i| names.get(i).copied());
        let month = named(&MONTHS, self.month - 1).unwrap_or("");
        let weekday = named(&DAYS, (self.days() + 4).rem_euclid(7)).unwrap_or("");
        let twelve = (self.hour + 11) % 12 + 1;
        out.push_str(&match field {
            "2006" => format!("{:04}", self.year),
            "06" => format!("{:02}", self.year.rem_euclid(100)),
            "January" => month.to_owned(),
            "Jan" => month.chars().take(3).collect(),
            "01" => format!("{:02}", self.month),
            "1" => self.month.to_string(),
            "Monday" => weekday.to_owned(),
            "Mon" => weekday.chars().take(3).collect(),
            "02" => format!("{:02}", self.day),
            "_2" => format!("{:2}", self.day),
            "2" => self.day.to_string(),
            "002" => format!("{:03}", self.days() - days_from_civil(self.year, 1, 1) + 1),
            "15" => format!("{:02}", self.hour),
            "03" => format!("{twelve:02}"),
            "3" => twelve.to_string(),
            "04" => format!("{:02}", self.minute),
            "4" => self.minute.to_string(),
            "05" => format!("{:02}", self.second),
            "5" => self.second.to_string(),
            "PM" => if self.hour < 12 { "AM" } else { "PM" }.to_owned(),
            "pm" => if self.hour < 12 { "am" } else { "pm" }.to_owned(),
            fraction => fraction_text(fraction, self.nanos),
        });
    }
}

/// A text while it is read.
struct Reading {
    clock: Clock,
    offset_s: i64,
    afternoon: Option<bool>,
}

impl Reading {
    /// Reads one field from the front of a text; gives the rest.
    fn field<'t>(&mut self, field: &str, text: &'t str) -> Option<&'t str> {
        match field {
            "PM" | "pm" => {
                let (half, rest) = text.split_at_checked(2)?;
                let afternoon = half.eq_ignore_ascii_case("pm");
                self.afternoon = Some(afternoon);
                (afternoon || half.eq_ignore_ascii_case("am")).then_some(rest)
            }
            "MST" => {
                let length = text.bytes().take_while(u8::is_ascii_uppercase).count();
                text.get(length..).filter(|_| length >= 3)
            }
            "Z07:00" | "Z0700" | "Z07" if text.starts_with('Z') => text.get(1..),
            field if ZONE_FIELDS.contains(&field) => {
                let (offset_s, rest) = zone_offset(field, text)?;
                self.offset_s = offset_s;
                Some(rest)
            }
            field if field.starts_with(['.', ',']) => self.fraction(field, text),
            field => self.number(field, text),
        }
    }

    /// Zeros are as many digits as they are, nines at most as many, or nothing.
    fn fraction<'t>(&mut self, field: &str, text: &'t str) -> Option<&'t str> {
        let Some(behind) = text.strip_prefix(['.', ',']) else {
            return field.contains('9').then_some(text);
        };
        let (nanos, rest) = fraction(behind)?;
        if field.contains('0') && behind.len() - rest.len() != field.len() - 1 {
            return None;
        }
        self.clock.nanos = nanos;
        Some(rest)
    }

    fn number<'t>(&mut self, field: &str, text: &'t str) -> Option<&'t str> {
        let (value, rest) = match field {
            "2006" => digits(text, 4, 4)?,
            "06" | "01" | "02" | "15" | "03" | "04" | "05" => digits(text, 2, 2)?,
            "1" | "2" | "3" | "4" | "5" => digits(text, 1, 2)?,
            "_2" => digits(text.trim_start_matches(' '), 1, 2)?,
            "002" => digits(text, 3, 3)?,
            "January" => name(text, MONTHS.into_iter())?,
            "Jan" => name(text, MONTHS.iter().filter_map(|name| name.get(..3)))?,
            "Monday" => name(text, DAYS.into_iter())?,
            "Mon" => name(text, DAYS.iter().filter_map(|name| name.get(..3)))?,
            _ => return None,
        };
        match field {
            "2006" => self.clock.year = value,
            "06" => self.clock.year = value + if value >= 69 { 1900 } else { 2000 },
            "01" | "1" => self.clock.month = value,
            "January" | "Jan" => self.clock.month = value + 1,
            "02" | "2" | "_2" => self.clock.day = value,
            "15" | "03" | "3" => self.clock.hour = value,
            "04" | "4" => self.clock.minute = value,
            "05" | "5" => self.clock.second = value,
            // Days of the week and of the year are read over.
            _ => {}
        }
        Some(rest)
    }
}

/// A number of so many digits, and what comes behind it.
fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(length).filter(|_| length >= least)?;
    Some((digits.parse().ok()?, rest))
}

/// Which of some names begins the text.
fn name(text: &str, names: impl Iterator<Item = &'static str>) -> Option<(i64, &str)> {
    names.enumerate().find_map(|(i, name)| {
        let (head, rest) = text.split_at_checked(name.len())?;
        head.eq_ignore_ascii_case(name).then_some((i as i64, rest))
    })
}

/// `+07:00` as the field has it, in seconds.
fn zone_offset<'t>(field: &str, text: &'t str) -> Option<(i64, &'t str)> {
    let (sign, behind) = match text.strip_prefix('-') {
        Some(behind) => (-1, behind),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, mut rest) = digits(behind, 2, 2)?;
    let mut minutes = 0;
    if !field.ends_with("07") {
        if field.contains(':') {
            rest = rest.strip_prefix(':')?;
        }
        (minutes, rest) = digits(rest, 2, 2)?;
    }
    Some((sign * (hours * 3_600 + minutes * 60), rest))
}

/// The digits of a fraction as nanoseconds; `None` where there are none.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(length).filter(|_| length > 0)?;
    let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some((nine.parse().ok()?, rest))
}

/// `.000` keeps its zeros, `.999` drops those at the end and itself if nothing is left.
fn fraction_text(layout: &str, nanos: u32) -> String {
    let wanted = layout.len().saturating_sub(1).min(9);
    let digits = format!("{nanos:09}");
    let digits = &digits[..wanted];
    if layout.contains('0') {
        return format!("{}{digits}", &layout[..1]);
    }
    match digits.trim_end_matches('0') {
        "" => String::new(),
        kept => format!("{}{kept}", &layout[..1]),
    }
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Text(&'a str),
    Field(&'a str),
}

const ZONE_FIELDS: [&str; 7] = ["MST", "Z07:00", "Z0700", "Z07", "-07:00", "-0700", "-07"];

/// Longer ones first where one begins another.
const FIELDS: [&str; 30] = [
    "2006", "January", "Jan", "Monday", "Mon", "MST", "002", "01", "02", "03", "04", "05", "06", "_2", "15",
    "1", "2", "3", "4", "5", "PM", "pm", "Z07:00", "Z0700", "Z07", "-07:00", "-0700", "-07", ".", ",",
];

fn each_part(layout: &str, mut each: impl FnMut(Part<'_>)) {
    let mut rest = layout;
    let mut plain = rest;
    while !rest.is_empty() {
        let Some(length) = field_length(rest) else {
            let step = rest.chars().next().map_or(1, char::len_utf8);
            rest = &rest[step..];
            continue;
        };
        let before = &plain[..plain.len() - rest.len()];
        if !before.is_empty() {
            each(Part::Text(before));
        }
        each(Part::Field(&rest[..length]));
        rest = &rest[length..];
        plain = rest;
    }
    if !plain.is_empty() {
        each(Part::Text(plain));
    }
}

fn field_length(rest: &str) -> Option<usize> {
    let field = FIELDS.iter().find(|f| rest.starts_with(**f))?;
    if !matches!(*field, "." | ",") {
        return Some(field.len());
    }
    // A fraction: all zeros or all nines, and no further digit.
    let digits = &rest[1..];
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let digits = &digits[..length];
    (length > 0 && (digits.bytes().all(|b| b == b'0') || digits.bytes().all(|b| b == b'9')))
        .then_some(length + 1)
}
