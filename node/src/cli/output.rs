//! What commands print: JSON as it came, or aligned tables for people.

use super::Outcome;
use serde_json::Value;
use std::io::{self, Write};

/// Prints and forgives a reader that has gone (`| head`).
pub(super) fn say(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let line = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

pub(super) fn say_json(value: &Value) -> Outcome {
    say(&serde_json::to_string_pretty(value).expect("a value becomes JSON"))
}

/// Columns as wide as their widest cell; the last one as it is.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(printable(cell).chars().count());
        }
    }
    let mut text = String::new();
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let line = row.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", printable(cell))).collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What came from a caller's phone is not to move the cursor of the operator's terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A field of an API answer as a cell.
pub(super) fn cell(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Times without their milliseconds.
pub(super) fn when(value: &Value, field: &str) -> String {
    let text = cell(value, field);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{}Z", seconds.replacen('T', " ", 1)),
        None => text,
    }
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} KB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_harmless() {
        let rows = vec![vec!["a".into(), "bbbb".into()], vec!["ccc".into(), "\u{1b}[2J".into()]];
        assert_eq!(table(&["X", "LONG HEAD"], &rows), "X    LONG HEAD\na    bbbb\nccc  ?[2J\n");
        assert_eq!(one_line("a\n  b\tc"), "a b c");
        assert_eq!(when(&serde_json::json!({ "at": "2026-11-20T12:00:00.123Z" }), "at"), "2026-11-20 12:00:00Z");
        assert_eq!((size(999), size(51_234), size(52_000_000)), ("999 B".into(), "51 KB".into(), "52 MB".into()));
    }
}
