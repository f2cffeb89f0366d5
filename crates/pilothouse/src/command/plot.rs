//! Series drawn with characters, for a look at a range without leaving the terminal.

/// One line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Milliseconds since 1970, and values; those that are no numbers are left out.
    pub(crate) points: Vec<(i64, f64)>,
}

const MARKS: [char; 8] = ['*', '+', 'o', 'x', '#', '@', '%', '='];
const HEIGHT: usize = 15;
/// Room for numbers beside the plot.
const LABEL: usize = 10;
const MIN_WIDTH: usize = 20;

/// The first lines, as many as there are marks; `width` is that of the terminal. `shown` writes
/// a time.
pub(crate) fn draw(lines: &[Line], width: usize, shown: impl Fn(i64) -> String) -> String {
    let drawn = &lines[..lines.len().min(MARKS.len())];
    let Some(frame) = Frame::around(drawn, width) else { return "nothing to plot\n".to_owned() };
    let mut grid = vec![vec![' '; frame.width]; HEIGHT];
    for (line, mark) in drawn.iter().zip(MARKS) {
        for &(t_ms, value) in line.points.iter().filter(|(_, value)| value.is_finite()) {
            let (row, column) = frame.cell(t_ms, value);
            if let Some(cell) = grid.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = mark;
            }
        }
    }
    let mut out = String::new();
    for (row, cells) in grid.iter().enumerate() {
        let is_labelled = row == 0 || row == HEIGHT - 1 || row == HEIGHT / 2;
        let label = if is_labelled { number(frame.value_of(row)) } else { String::new() };
        let cells: String = cells.iter().collect();
        out.push_str(&format!("{label:>LABEL$} |{}\n", cells.trim_end()));
    }
    let (start, end) = (shown(frame.start_ms), shown(frame.end_ms));
    let room = frame.width.saturating_sub(start.chars().count());
    out.push_str(&format!("{:LABEL$} +{}\n", "", "-".repeat(frame.width)));
    out.push_str(&format!("{:LABEL$}  {start}{end:>room$}\n", ""));
    for (line, mark) in drawn.iter().zip(MARKS) {
        out.push_str(&format!("{mark} {}\n", line.name));
    }
    if lines.len() > drawn.len() {
        out.push_str(&format!("and {} more that are not drawn\n", lines.len() - drawn.len()));
    }
    out
}

/// What part of the plane is drawn.
struct Frame {
    start_ms: i64,
    end_ms: i64,
    low: f64,
    high: f64,
    width: usize,
}

impl Frame {
    /// `None` without a single point.
    fn around(lines: &[Line], width: usize) -> Option<Self> {
        let points = || lines.iter().flat_map(|line| &line.points).filter(|(_, value)| value.is_finite());
        let start_ms = points().map(|(t_ms, _)| *t_ms).min()?;
        let end_ms = points().map(|(t_ms, _)| *t_ms).max()?;
        let low = points().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let high = points().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        // A flat line stands in the middle.
        let (low, high) = if low < high { (low, high) } else { (low - 1.0, high + 1.0) };
        Some(Self { start_ms, end_ms, low, high, width: width.saturating_sub(LABEL + 2).max(MIN_WIDTH) })
    }

    fn cell(&self, t_ms: i64, value: f64) -> (usize, usize) {
        let span = (self.end_ms - self.start_ms).max(1) as f64;
        let across = (t_ms - self.start_ms) as f64 / span * (self.width - 1) as f64;
        let up = (value - self.low) / (self.high - self.low) * (HEIGHT - 1) as f64;
        (HEIGHT - 1 - up.round() as usize, across.round() as usize)
    }

    fn value_of(&self, row: usize) -> f64 {
        self.high - (self.high - self.low) * row as f64 / (HEIGHT - 1) as f64
    }
}

/// A number in few characters: `1.5k`, `20M`.
fn number(value: f64) -> String {
    const UNITS: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let unit = UNITS.iter().find(|(size, _)| value.abs() >= *size);
    let (scaled, unit) = unit.map_or((value, ""), |(size, unit)| (value / size, *unit));
    let text =
        if scaled != 0.0 && scaled.abs() < 0.001 { format!("{scaled:.2e}") } else { format!("{scaled:.3}") };
    let text = if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_with_their_marks() {
        let rising =
            Line { name: "rising".to_owned(), points: (0..15).map(|i| (i * 1_000, i as f64)).collect() };
        let flat = Line { name: "flat".to_owned(), points: vec![(0, 7.0), (14_000, f64::NAN)] };
        let plot = draw(&[rising, flat], 32, |t_ms| format!("{}s", t_ms / 1_000));
        let lines: Vec<&str> = plot.lines().collect();
        assert_eq!(lines[0], format!("        14 |{:19}*", ""));
        assert_eq!(lines[7].chars().nth(12), Some('+'), "{plot}");
        assert_eq!(lines[14], "         0 |*");
        assert_eq!(lines[16], format!("{:12}0s{:>18}", "", "14s"));
        assert_eq!(&lines[17..], ["* rising", "+ flat"]);
    }

    #[test]
    fn there_may_be_nothing_or_one_value() {
        let empty = Line { name: String::new(), points: vec![(0, f64::INFINITY)] };
        assert_eq!(draw(&[empty], 80, |_| String::new()), "nothing to plot\n");
        let one = Line { name: "m".to_owned(), points: vec![(5, 3.0)] };
        assert!(draw(&[one], 0, |_| String::new()).contains("3 |*"));
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in
            [(0.0, "0"), (1.5, "1.5"), (1_500.0, "1.5k"), (-2e9, "-2G"), (0.0001, "1.00e-4"), (100.0, "100")]
        {
            assert_eq!(number(value), expected);
        }
    }
}
