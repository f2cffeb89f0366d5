//! Rows shown as a table for people or as CSV for programs.

use clap::ValueEnum;
use serde_json::Value;

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Table,
    /// The server's answer as it came
    Json,
    /// With a line of names; RFC 4180
    Csv,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(names: &[&str]) -> Self {
        Self { names: names.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// As many cells as there are names.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Rows of objects: a column for each path of keys, `a.b` for what is nested.
    pub(crate) fn of_objects(items: &[Value], columns: &[(&str, &str)]) -> Self {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let mut table = Self::new(&names);
        for item in items {
            table.push(columns.iter().map(|(_, path)| cell(item, path)).collect());
        }
        table
    }

    pub(crate) fn render(&self, format: Format) -> String {
        if format == Format::Csv { self.csv() } else { self.text() }
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.names).chain(&self.rows)
    }

    fn csv(&self) -> String {
        let field = |text: &String| {
            let is_plain = !text.contains([',', '"', '\n', '\r']);
            if is_plain { text.clone() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
        };
        let line = |row: &Vec<String>| row.iter().map(field).collect::<Vec<_>>().join(",") + "\r\n";
        self.lines().map(line).collect()
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            self.lines().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.names.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        self.lines().map(line).collect()
    }
}

/// The text of a value; lists with commas between.
fn cell(item: &Value, path: &str) -> String {
    let value = path.split('.').try_fold(item, |value, key| value.get(key));
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(","),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_shown() {
        let items = [json!({"a": "x,y", "b": {"c": 1}}), json!({"a": "say \"hi\"", "d": ["e", "f"]})];
        let table = Table::of_objects(&items, &[("A", "a"), ("NUMBER", "b.c"), ("LIST", "d")]);
        let text = "A         NUMBER  LIST\nx,y       1\nsay \"hi\"          e,f\n";
        assert_eq!(table.render(Format::Table), text);
        let csv = "A,NUMBER,LIST\r\n\"x,y\",1,\r\n\"say \"\"hi\"\"\",,\"e,f\"\r\n";
        assert_eq!(table.render(Format::Csv), csv);
    }
}
