//! What is wrong with a configuration, as people and as programs read it.

use std::fmt;

use serde::Serialize;

/// Every error of a configuration, in the order of its files and lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The errors; a report that [`load`](super::load) returns has at least one.
    pub errors: Vec<Problem>,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as the user named it or as an `include` found it.
    pub file: String,
    /// Where in the file; absent when it is about the file as a whole.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line itself, safe to print: control characters are escaped, and what is over 200 characters is cut.
    pub text: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.errors.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        write!(f, "  --> {}", self.file)?;
        if let Some(Place { line, column, text }) = &self.place {
            write!(f, ":{line}:{column}\n   | {text}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   = help: {help}")?;
        }
        Ok(())
    }
}

/// A file's text with the starts of its lines, to tell the place of an offset.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let after_newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// The place of a byte offset; one past the end is the end.
    pub(super) fn place(&self, offset: usize) -> Place {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        let text = self.text[start..end].trim_end_matches(['\n', '\r']);
        Place { line, column: self.text[start..offset].chars().count() + 1, text: shown(text) }
    }
}

/// The longest line that is shown whole, in characters.
const WIDEST: usize = 200;

fn shown(line: &str) -> String {
    match line.char_indices().nth(WIDEST) {
        Some((end, _)) => printable(&line[..end]) + "…",
        None => printable(line),
    }
}

/// `text` without anything that a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && char != '\t' {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(place: Option<Place>, help: Option<&str>) -> Problem {
        Problem {
            file: "proxy.toml".to_owned(),
            place,
            message: "unknown key `fall_count`".to_owned(),
            help: help.map(str::to_owned),
        }
    }

    #[test]
    fn an_error_is_shown_with_its_place_its_line_and_its_cure() {
        let place = Lines::new("a = 1\nfall_count = 3\n").place(6);
        let report =
            Report { errors: vec![problem(Some(place), Some("did you mean `fall`?")), problem(None, None)] };
        let shown = "error: unknown key `fall_count`\n  --> proxy.toml:2:1\n   | fall_count = 3\n   \
                     = help: did you mean `fall`?\n\nerror: unknown key `fall_count`\n  --> proxy.toml";
        assert_eq!(report.to_string(), shown);
    }

    #[test]
    fn the_json_form_has_the_same_facts() {
        let place = Lines::new("fall_count = 3\n").place(0);
        let errors = [problem(Some(place), Some("so")), problem(None, None)];
        let expected = serde_json::json!([
            {"file": "proxy.toml", "line": 1, "column": 1, "text": "fall_count = 3",
             "message": "unknown key `fall_count`", "help": "so"},
            {"file": "proxy.toml", "message": "unknown key `fall_count`", "help": null},
        ]);
        assert_eq!(serde_json::json!(errors), expected);
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\r\n\u{e9}\u{e9}=x\n\nend";
        let lines = Lines::new(text);
        let cases = [
            (0, 1, 1, "a"),
            (3, 2, 1, "\u{e9}\u{e9}=x"),
            (7, 2, 3, "\u{e9}\u{e9}=x"),
            (10, 3, 1, ""),
            (text.len(), 4, 4, "end"),
            (text.len() + 9, 4, 4, "end"),
        ];
        for (offset, line, column, text) in cases {
            assert_eq!(lines.place(offset), Place { line, column, text: text.to_owned() }, "at {offset}");
        }
        assert_eq!(Lines::new("").place(0), Place { line: 1, column: 1, text: String::new() });
    }

    #[test]
    fn a_shown_line_cannot_steer_a_terminal_nor_fill_it() {
        assert_eq!(Lines::new("a\u{1b}[31m\tb").place(0).text, "a\\u{1b}[31m\tb");
        let long = "é".repeat(WIDEST + 1);
        assert_eq!(Lines::new(&long).place(0).text, "é".repeat(WIDEST) + "…");
    }
}
