//! The open chunk of one series: samples are appended one at a time and can be read at any time.
//!
//! There is one of these per active series, so what counts is bytes per series. Times are coded
//! against a grid: the usual sample lies one step after the last, and a late one does not move the
//! grid. One bit says that a sample is on the grid and that its value moves, or rests, as the last
//! one did. Values are decimal numbers as long as they can be (`12.34` is 1234 hundredths), coded
//! by how far their difference is from the mean of the differences so far; from the first value
//! that is no such number on, by XOR with the previous one. The bits are private to this process
//! and may change with any version.

use pilothouse_model::SampleColumns;

use super::bits::{BitReader, bit_length, low_mask, unzigzag, zigzag};

/// Samples of one series in the order they were appended.
#[derive(Debug, Clone, Default)]
pub struct HeadChunk {
    /// As long as is allocated; zero beyond the bits in use.
    bytes: Box<[u8]>,
    used_bits: u32,
    count: u32,
    first_t: i64,
    coder: Coder,
}

/// What writer and reader carry from sample to sample. They change it by the same steps.
#[derive(Debug, Clone, Default)]
struct Coder {
    last_t: i64,
    last_bits: u64,
    step_ms: u32,
    /// Decimal: running mean of the differences, which the next one is expected to be.
    mean: i32,
    /// How far the last time was off the grid.
    off_grid: i8,
    form: u8,
    /// Decimal: average bit length of what the mean did not foresee, in quarters. XOR: low end of
    /// the window.
    level: u8,
    /// XOR: width of the window.
    width: u8,
    /// Whether the last value differed from the one before: the next is expected to do the same.
    changed: bool,
    /// In the writer only: the last value is known to be whole units.
    whole_units: bool,
}

/// Forms 0 to 12 are values times a power of ten; then whole multiples; then XOR.
const MULTIPLE_1024: u8 = 13;
const MULTIPLE_4096: u8 = 14;
const XOR: u8 = 15;
/// By form: what a value is multiplied by to be whole. Dividing by it is exact in both ways.
const FACTORS: [f64; 16] =
    [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1.0 / 1024.0, 1.0 / 4096.0, 1.0];
/// Ones that begin a control code instead of a quotient.
const QUOTIENT_LIMIT: u32 = 12;
/// Levels of a form that has seen no difference, and only the one from nothing.
const FRESH: u8 = 255;
const GUESSING: u8 = 254;
const SMALL_OFF_GRID_BITS: u32 = 7;
const MOVE_BITS: u32 = 18;

/// The value as a whole number of the form's unit, if that gives back the same bits.
#[inline]
fn to_units(form: u8, value: f64) -> Option<i64> {
    let scaled = value * FACTORS[usize::from(form & 15)];
    // Also refuses infinities and NaN.
    if form == XOR || scaled.is_nan() || scaled.abs() >= 2_251_799_813_685_248.0 {
        return None;
    }
    let units = round(scaled);
    (from_units(form, units).to_bits() == value.to_bits()).then_some(units)
}

/// To the nearest whole number without a library call, for magnitudes below 2^51.
#[inline]
fn round(scaled: f64) -> i64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    ((scaled + ROUND) - ROUND) as i64
}

#[inline]
fn from_units(form: u8, units: i64) -> f64 {
    units as f64 / FACTORS[usize::from(form & 15)]
}

/// The form a value asks for when the present one cannot hold it.
fn choose_form(present: u8, value: f64) -> u8 {
    if present == 0 || present > 12 {
        (0..=12).find(|f| to_units(*f, value).is_some()).unwrap_or(XOR)
    } else {
        (present..=12).find(|f| to_units(*f, value).is_some()).unwrap_or(XOR)
    }
}

/// NaN, infinities and the negative zero: written whole, and no reason to leave a form.
fn is_special(value: f64) -> bool {
    !value.is_finite() || value.to_bits() == (-0.0f64).to_bits()
}

impl HeadChunk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Samples held.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn first_t(&self) -> Option<i64> {
        (self.count > 0).then_some(self.first_t)
    }

    pub fn last_t(&self) -> Option<i64> {
        (self.count > 0).then_some(self.coder.last_t)
    }

    pub fn last_value(&self) -> Option<f64> {
        (self.count > 0).then(|| f64::from_bits(self.coder.last_bits))
    }

    /// Bytes of the encoded samples.
    pub fn bytes_len(&self) -> usize {
        self.used_bits.div_ceil(8) as usize
    }

    /// Bytes allocated beside the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a sample. Times are expected to ascend; others are kept exactly, but
    /// [`HeadChunk::read_range`] then stops too early.
    pub fn append(&mut self, t_ms: i64, value: f64) {
        let mut bits = Bits::default();
        let mut on_grid = false;
        if self.count == 0 {
            self.first_t = t_ms;
            self.coder = Coder { last_t: t_ms, level: FRESH, ..Coder::default() };
            let whole = |unit: f64| value != 0.0 && (value / unit).fract() == 0.0;
            self.coder.form = match value {
                _ if whole(4096.0) && to_units(MULTIPLE_4096, value).is_some() => MULTIPLE_4096,
                _ if whole(1024.0) && to_units(MULTIPLE_1024, value).is_some() => MULTIPLE_1024,
                _ => 0,
            };
            bits.put(u64::from(self.coder.form), 4);
        } else {
            on_grid = self.coder.write_time(t_ms, &mut bits);
            if bits.length > 24 {
                self.push_bits(std::mem::take(&mut bits));
            }
        }
        let value = value.to_bits();
        let changed = value != self.coder.last_bits;
        let surprising = u32::from(changed != self.coder.changed);
        if on_grid {
            // One bit says that all is as before, two that the value has begun or ceased to move.
            bits.put(u64::from(surprising), 1 + surprising);
        } else {
            bits.put(u64::from(surprising), 1);
        }
        self.coder.changed = changed;
        if changed {
            self.coder.write_value(value, &mut bits);
        }
        self.count += 1;
        self.push_bits(bits);
    }

    fn push_bits(&mut self, bits: Bits) {
        let (at, shift) = ((self.used_bits >> 3) as usize, self.used_bits & 7);
        let end = (self.used_bits + bits.length).div_ceil(8) as usize;
        if end > self.bytes.len() {
            self.grow(end);
        }
        let low = (bits.value << shift).to_le_bytes();
        // What the shift has pushed out of the word goes into one byte more.
        let high = if shift == 0 { 0 } else { (bits.value >> (128 - shift)) as u8 };
        if let Some(to) = self.bytes.get_mut(at..end) {
            for (to, from) in to.iter_mut().zip(low.iter().chain([&high])) {
                *to |= from;
            }
        }
        self.used_bits += bits.length;
    }

    /// Grows by a quarter, not to the double: a quarter of a million of these live at once.
    #[cold]
    fn grow(&mut self, needed: usize) {
        let length = needed.max(self.bytes.len() * 5 / 4).max(16).next_multiple_of(8);
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        bytes.reserve_exact(length - bytes.len());
        bytes.resize(length, 0);
        self.bytes = bytes.into_boxed_slice();
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter {
            reader: BitReader::new(&self.bytes),
            coder: Coder { last_t: self.first_t, level: FRESH, ..Coder::default() },
            units: Some(0),
            left: self.count,
            started: false,
        }
    }

    /// Appends the samples with `start_ms <= t <= end_ms` to `out`.
    pub fn read_range(&self, start_ms: i64, end_ms: i64, out: &mut SampleColumns) {
        if self.count == 0 || self.first_t > end_ms || self.coder.last_t < start_ms {
            return;
        }
        for (t, value) in self.iter() {
            if t > end_ms {
                return;
            }
            if t >= start_ms {
                out.push_float(t, value);
            }
        }
    }

    /// Appends all samples to two columns.
    pub fn read_all(&self, times_ms: &mut Vec<i64>, values: &mut Vec<f64>) {
        times_ms.reserve(self.len());
        values.reserve(self.len());
        for (t, value) in self.iter() {
            times_ms.push(t);
            values.push(value);
        }
    }
}

/// Bits on their way to the list, at most 128: a short time and a value, or a long time.
#[derive(Default)]
struct Bits {
    value: u128,
    length: u32,
}

impl Bits {
    #[inline]
    fn put(&mut self, value: u64, width: u32) {
        self.value |= u128::from(value) << self.length;
        self.length += width;
    }
}

/// What a time off the grid does to the grid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Near,
    Along,
    Step,
}

impl Coder {
    /// Writes a time unless it is on the grid, which is answered. Codes begin with two ones and
    /// go on, by leading ones: near the grid; off it, and the grid moves along; a new step
    /// besides; anything. Sums wrap, so that arbitrary times are exact.
    fn write_time(&mut self, t_ms: i64, bits: &mut Bits) -> bool {
        let off = t_ms.wrapping_sub(self.expected());
        let change = t_ms.wrapping_sub(self.last_t).wrapping_sub(i64::from(self.step_ms));
        let mut moved = Moved::Near;
        if off == 0 {
            self.off_grid = 0;
            self.last_t = t_ms;
            return true;
        } else if self.step_ms > 0 && fits(off, SMALL_OFF_GRID_BITS) {
            bits.put(0b011 | (zigzag(off) << 3), 3 + SMALL_OFF_GRID_BITS);
        } else if fits(off, MOVE_BITS) && self.is_gap(t_ms) {
            moved = Moved::Along;
            bits.put(0b0111 | (zigzag(off) << 4), 4 + MOVE_BITS);
        } else if fits(change, MOVE_BITS) && t_ms > self.last_t {
            moved = Moved::Step;
            bits.put(0b0_1111 | (zigzag(change) << 5), 5 + MOVE_BITS);
        } else {
            moved = Moved::Step;
            bits.put(0b1_1111, 5);
            bits.put(t_ms as u64, 64);
        }
        self.advance_time(t_ms, off, moved);
        false
    }

    /// Whether the time is late by about whole steps: scrapes that failed, not another interval.
    fn is_gap(&self, t_ms: i64) -> bool {
        let delta = t_ms.wrapping_sub(self.last_t);
        let step = i64::from(self.step_ms);
        step > 0 && delta > step && { (delta + step / 16) % step <= step / 8 }
    }

    fn advance_time(&mut self, t_ms: i64, off: i64, moved: Moved) {
        self.off_grid = if moved == Moved::Near { off as i8 } else { 0 };
        if moved == Moved::Step {
            self.step_ms = u32::try_from(t_ms.wrapping_sub(self.last_t)).unwrap_or(0);
        }
        self.last_t = t_ms;
    }

    /// The time one step on, on the grid.
    #[inline]
    fn expected(&self) -> i64 {
        self.last_t.wrapping_add(i64::from(self.step_ms) - i64::from(self.off_grid))
    }

    /// Reads a time that is not on the grid.
    fn read_time(&mut self, reader: &mut BitReader<'_>) {
        let code = reader.peek();
        let number = |ones: u32, width: u32| unzigzag((code >> (ones + 1)) & low_mask(width));
        match code.trailing_ones() {
            0..=2 => {
                reader.skip(3 + SMALL_OFF_GRID_BITS);
                let off = number(2, SMALL_OFF_GRID_BITS);
                self.advance_time(self.expected().wrapping_add(off), off, Moved::Near);
            }
            3 => {
                reader.skip(4 + MOVE_BITS);
                let t_ms = self.expected().wrapping_add(number(3, MOVE_BITS));
                self.advance_time(t_ms, 0, Moved::Along);
            }
            4 => {
                reader.skip(5 + MOVE_BITS);
                let delta = i64::from(self.step_ms).wrapping_add(number(4, MOVE_BITS));
                self.advance_time(self.last_t.wrapping_add(delta), 0, Moved::Step);
            }
            _ => {
                reader.skip(5);
                let t_ms = reader.take(64) as i64;
                self.advance_time(t_ms, 0, Moved::Step);
            }
        }
    }

    /// Writes a value that differs from the last.
    fn write_value(&mut self, value: u64, bits: &mut Bits) {
        if self.form == XOR {
            return self.write_xor(value, bits);
        }
        let float = f64::from_bits(value);
        match to_units(self.form, float) {
            Some(units) => self.write_units(units, bits),
            None if is_special(float) => {
                put_control(bits, Control::Whole);
                bits.put(value, 64);
                self.change_form(self.form);
            }
            None => {
                self.change_form(choose_form(self.form, float));
                put_control(bits, Control::Form);
                bits.put(u64::from(self.form), 4);
                return self.write_value(value, bits);
            }
        }
        self.last_bits = value;
    }

    fn change_form(&mut self, form: u8) {
        self.form = form;
        self.level = if form == XOR { 0 } else { FRESH };
        self.width = 0;
        self.mean = 0;
        self.whole_units = false;
    }

    /// The previous value in the present form's units; 0 if it has none there.
    fn last_units(&self) -> i64 {
        to_units(self.form, f64::from_bits(self.last_bits)).unwrap_or(0)
    }

    fn write_units(&mut self, units: i64, bits: &mut Bits) {
        let last = if self.whole_units {
            round(f64::from_bits(self.last_bits) * FACTORS[usize::from(self.form & 15)])
        } else {
            self.last_units()
        };
        self.whole_units = true;
        let difference = units - last;
        let surprise = zigzag(difference - i64::from(self.mean));
        let low_bits = rice_bits(self.level);
        let quotient = surprise >> low_bits;
        if quotient < u64::from(QUOTIENT_LIMIT) {
            let quotient = quotient as u32;
            bits.put(low_mask(quotient), quotient + 1);
            bits.put(surprise & low_mask(low_bits), low_bits);
        } else {
            put_control(bits, Control::Surprise);
            let width = bit_length(surprise);
            bits.put(u64::from(width - 1), 6);
            bits.put(surprise, width);
        }
        self.learn(difference, surprise);
    }

    /// Takes a difference into the averages. The first of a form is from nothing to a value and
    /// teaches nothing; the second is the first guess.
    #[inline]
    fn learn(&mut self, difference: i64, surprise: u64) {
        let level = i32::from(self.level);
        let length = bit_length(surprise) as i32;
        match self.level {
            FRESH => {
                self.level = GUESSING;
                return;
            }
            GUESSING => {
                self.level = (2 * length) as u8;
                self.mean = difference.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
                return;
            }
            _ => self.level = (level + ((4 * length - level + 2) >> 2)) as u8,
        }
        let mean = i64::from(self.mean);
        let mean = mean.wrapping_add(difference.wrapping_sub(mean) >> 3);
        self.mean = mean.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    }

    fn write_xor(&mut self, value: u64, bits: &mut Bits) {
        let xor = value ^ self.last_bits;
        let (low, high) = (xor.trailing_zeros(), bit_length(xor));
        let window = u32::from(self.level)..u32::from(self.level) + u32::from(self.width);
        let slack = u32::from(self.width).saturating_sub(high - low);
        if low >= window.start && high <= window.end && slack <= 14 {
            bits.put(0, 1);
            bits.put(xor >> window.start, window.end - window.start);
        } else {
            let width = high - low;
            bits.put(1 | (u64::from(low) << 1) | (u64::from(width - 1) << 7), 13);
            bits.put(xor >> low, width);
            self.level = low as u8;
            self.width = width as u8;
        }
        self.last_bits = value;
    }
}

fn fits(value: i64, width: u32) -> bool {
    zigzag(value) <= low_mask(width)
}

/// What may follow [`QUOTIENT_LIMIT`] ones.
#[derive(Clone, Copy)]
enum Control {
    Surprise = 0,
    Form = 1,
    Whole = 2,
}

fn put_control(bits: &mut Bits, control: Control) {
    bits.put(low_mask(QUOTIENT_LIMIT) | ((control as u64) << QUOTIENT_LIMIT), QUOTIENT_LIMIT + 2);
}

/// Bits of a surprise that are written as they are.
#[inline]
fn rice_bits(level: u8) -> u32 {
    if level >= GUESSING { 0 } else { u32::from(level >> 2).saturating_sub(1) }
}

/// Decodes a chunk from its first sample.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    reader: BitReader<'a>,
    coder: Coder,
    /// The last value in units of the form; `None` when it must be computed from the value.
    units: Option<i64>,
    left: u32,
    started: bool,
}

impl Iterator for Iter<'_> {
    type Item = (i64, f64);

    #[inline(always)]
    fn next(&mut self) -> Option<(i64, f64)> {
        self.left = self.left.checked_sub(1)?;
        let code = self.reader.peek();
        if code & 3 != 3 && self.started {
            // On the grid, as nearly all are: the value's code is in the same word.
            self.coder.last_t = self.coder.expected();
            self.coder.off_grid = 0;
            let surprising = code & 1;
            self.reader.skip(1 + surprising as u32);
            self.coder.changed ^= surprising != 0;
            if self.coder.changed {
                self.read_value(code >> (1 + surprising));
            }
        } else {
            self.read_off_grid();
        }
        Some((self.coder.last_t, f64::from_bits(self.coder.last_bits)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl Iter<'_> {
    /// Reads the first sample, or one whose time is off the grid.
    fn read_off_grid(&mut self) {
        if self.started {
            self.coder.read_time(&mut self.reader);
        } else {
            self.started = true;
            self.coder.form = self.reader.take(4) as u8;
        }
        self.coder.changed ^= self.reader.take(1) != 0;
        if self.coder.changed {
            self.read_value(self.reader.peek());
        }
    }

    /// Reads a changed value whose code begins with these bits, at least 55 of them real.
    #[inline(always)]
    fn read_value(&mut self, code: u64) {
        if self.coder.form == XOR {
            return self.read_xor(code);
        }
        let quotient = code.trailing_ones();
        if quotient >= QUOTIENT_LIMIT {
            return self.read_control(code);
        }
        let low_bits = rice_bits(self.coder.level);
        let code = code >> (quotient + 1);
        self.reader.skip(quotient + 1);
        let low = if low_bits <= 40 { code & low_mask(low_bits) } else { self.reader.clone().take(low_bits) };
        self.reader.skip(low_bits);
        self.add_units((u64::from(quotient) << low_bits) | low);
    }

    #[inline]
    fn add_units(&mut self, surprise: u64) {
        let last = self.units.unwrap_or_else(|| self.coder.last_units());
        let difference = unzigzag(surprise).wrapping_add(i64::from(self.coder.mean));
        let units = last.wrapping_add(difference);
        self.units = Some(units);
        self.coder.last_bits = from_units(self.coder.form, units).to_bits();
        self.coder.learn(difference, surprise);
    }

    #[cold]
    fn read_control(&mut self, code: u64) {
        let control = (code >> QUOTIENT_LIMIT) & 3;
        self.reader.skip(QUOTIENT_LIMIT + 2);
        if control == Control::Surprise as u64 {
            let width = self.reader.take(6) as u32 + 1;
            let surprise = self.reader.take(width);
            self.add_units(surprise);
        } else if control == Control::Form as u64 {
            self.coder.change_form(self.reader.take(4) as u8);
            self.units = None;
            self.read_value_again();
        } else {
            self.coder.last_bits = self.reader.take(64);
            self.coder.change_form(self.coder.form);
            self.units = None;
        }
    }

    fn read_value_again(&mut self) {
        self.read_value(self.reader.peek());
    }

    #[inline]
    fn read_xor(&mut self, code: u64) {
        if code & 1 == 0 {
            self.reader.skip(1);
        } else {
            self.coder.level = ((code >> 1) & 63) as u8;
            self.coder.width = ((code >> 7) & 63) as u8 + 1;
            self.reader.skip(13);
        }
        let xor = self.reader.take(u32::from(self.coder.width));
        self.coder.last_bits ^= xor << self.coder.level;
    }
}
