//! Reads TOML past its syntax errors, so that one broken line does not hide the errors of the others.
//!
//! The parser stops building its table at a line without `=`, and takes everything after an unclosed
//! bracket for more of it. So a text with errors is cut into statements; each is judged on its own, one
//! that is broken is reported once and blanked, and what is left is read as if it had not been there.

use std::ops::Range;

use toml::de::DeTable;

use super::known;
use super::value::Fault;

/// A text with its syntax errors taken out.
pub(super) struct Recovered {
    /// The text with every broken statement blanked: offsets are those of the original.
    pub(super) text: String,
    /// The errors, each with its offset.
    pub(super) errors: Vec<(usize, Fault)>,
    /// The statements that were blanked, in order.
    pub(super) blanked: Vec<Range<usize>>,
    /// Whether a table header or an `include` was among them, so that what it brings is not known.
    pub(super) lost_tables: bool,
}

/// Finds the syntax errors of `text`: the first of each broken statement.
pub(super) fn recover(text: &str) -> Recovered {
    let mut recovered =
        Recovered { text: text.to_owned(), errors: Vec::new(), blanked: Vec::new(), lost_tables: false };
    if first_error(text).is_some() {
        recovered.take_out_broken_statements(text);
    }
    // What is left over joins good statements in a bad way, such as a key that is given twice.
    for error in DeTable::parse_recoverable(&recovered.text).1 {
        let span = error.span().unwrap_or_default();
        recovered.errors.push((span.start, explain(error.message(), &text[span], "")));
    }
    recovered
}

impl Recovered {
    fn take_out_broken_statements(&mut self, text: &str) {
        let mut header_is_lost = false;
        let mut start = 0;
        while start < text.len() {
            let line = first_line(&text[start..]);
            let mut end = balanced_end(text, start);
            let mut error = first_error(&text[start..end]);
            if error.is_some()
                && let Some(next) = next_statement(text, start, end)
            {
                end = next;
                error = first_error(&text[start..end]);
            }
            let is_header = line.trim_start().starts_with('[');
            let is_broken = error.is_some();
            if let Some((span, message)) = error {
                let span = start + span.start..start + span.end;
                self.errors.push((span.start, explain(&message, &text[span], line)));
                self.lost_tables |= is_header || line.trim_start().starts_with("include");
            }
            if is_header {
                header_is_lost = is_broken;
            }
            // Keys after a lost header belong to no table that is known.
            if is_broken || header_is_lost {
                self.blanked.push(start..end);
            }
            start = end;
        }
        for range in &self.blanked {
            let blank: String =
                text[range.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
            self.text.replace_range(range.clone(), &blank);
        }
    }
}

fn first_error(text: &str) -> Option<(Range<usize>, String)> {
    let (_, errors) = DeTable::parse_recoverable(text);
    let places = errors.iter().map(|error| (error.span().unwrap_or_default(), error.message().to_owned()));
    places.min_by_key(|(span, _)| span.start)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The end of the statement that starts at `start`: the end of the first line on which all brackets and
/// strings are closed, or the end of the text.
fn balanced_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\n' if depth == 0 => return at + 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'#' => at = line_end(text, at) - 1,
            b'"' | b'\'' => at = string_end(text, at) - 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |length| from + length)
}

/// The offset after the string whose quote stands at `open`; one that is not closed ends with its line,
/// or with the text when it may have many lines.
fn string_end(text: &str, open: usize) -> usize {
    let quote = &text[open..=open];
    let triple = quote.repeat(3);
    let (close, mut at, limit) = if text[open..].starts_with(&triple) {
        (triple.as_str(), open + 3, text.len())
    } else {
        (quote, open + 1, line_end(text, open))
    };
    while at < limit {
        if text.as_bytes()[at] == b'\\' && quote == "\"" {
            at += 2;
        } else if text.as_bytes()[at..].starts_with(close.as_bytes()) {
            return at + close.len();
        } else {
            at += 1;
        }
    }
    limit
}

/// The first line after that of `start`, and before `end`, that looks like a statement and is not indented
/// deeper: there an unclosed bracket or string was probably meant to have ended.
fn next_statement(text: &str, start: usize, end: usize) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let limit = indent(first_line(&text[start..]));
    let mut at = start;
    for line in text[start..end].split_inclusive('\n') {
        if at > start && indent(line) <= limit && looks_like_statement(line.trim()) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

fn looks_like_statement(line: &str) -> bool {
    if let Some(header) = line.strip_prefix('[') {
        return header.trim_start_matches('[').starts_with(|c: char| c.is_ascii_alphabetic());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    line.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty() && key.chars().all(fits))
}

/// A syntax error in the words of this program; `found` is what the parser stumbled on, `line` the first
/// line of its statement.
fn explain(message: &str, found: &str, line: &str) -> Fault {
    let quoted = |text: &str| format!("a string needs quotes: write \"{text}\"");
    if message == "duplicate key" {
        return Fault::new(format!("`{found}` is given twice")).help("keep one of the two");
    }
    if message.starts_with("string values must be quoted") {
        return match found {
            "" => Fault::new("there is no value after `=`"),
            _ => Fault::new(format!("`{found}` is not a value")).help(quoted(found)),
        };
    }
    if message.starts_with("invalid boolean") {
        let fault = Fault::new(format!("`{found}` is not a value"));
        return match found.to_ascii_lowercase().as_str() {
            word @ ("true" | "false") => fault.help(format!("write {word}")),
            _ => fault.help(quoted(found)),
        };
    }
    let fault = Fault::new(message);
    if line.contains('=') {
        return fault;
    }
    // Probably a line from another proxy's configuration.
    let words: Vec<&str> =
        line.split(|c: char| c.is_whitespace() || c == ';').filter(|w| !w.is_empty()).collect();
    let hint = match words[..] {
        [first, second, ..] => {
            known::of_others(&format!("{first} {second}")).or_else(|| known::of_others(first))
        }
        [only] => known::of_others(only),
        [] => None,
    };
    match hint {
        Some(hint) => fault.help(hint),
        None if message.starts_with("key with no value") => {
            fault.help("a line is `key = value` or `[table]`")
        }
        None => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Lines;
    use super::*;

    /// The errors as `line:column message / help`.
    fn errors(text: &str) -> Vec<String> {
        let lines = Lines::new(text);
        let shown = |(offset, fault): (usize, Fault)| {
            let place = lines.place(offset);
            let help = fault.help.map(|help| format!(" / {help}")).unwrap_or_default();
            format!("{}:{} {}{help}", place.line, place.column, fault.message)
        };
        recover(text).errors.into_iter().map(shown).collect()
    }

    #[test]
    fn good_text_is_left_alone() {
        for text in
            ["", "a = 1\n", "s = '''\nx = [\n'''\n", "a = [\n{ b = 1,\nc = 2 },\n]\n", "\u{feff}a = 1"]
        {
            let recovered = recover(text);
            assert_eq!((recovered.text.as_str(), recovered.errors), (text, vec![]));
        }
    }

    #[test]
    fn a_broken_statement_is_named_once_and_hides_nothing_else() {
        let text = "a = 5s\n[t]\ntimeout client 5s\nb = [\"x\", \"y\"\nc = 1\n\n[u\nd = 1\n[v]\ne = \"open\nf = True\n";
        let expected = [
            "1:5 `5s` is not a value / a string needs quotes: write \"5s\"",
            "3:9 key with no value, expected `=` / that is HAProxy, nginx and Envoy language; here it is `idle` in [defaults.timeouts], for both directions together",
            "4:14 unclosed array, expected `]`",
            "7:3 unclosed table, expected `]`",
            "10:10 invalid basic string, expected `\"`",
            "11:5 `True` is not a value / write true",
        ];
        assert_eq!(errors(text), expected);
        let recovered = recover(text);
        assert!(recovered.lost_tables);
        assert_eq!(recovered.text.len(), text.len());
        let left = DeTable::parse(&recovered.text).unwrap().into_inner();
        assert_eq!(left.keys().map(toml::Spanned::get_ref).collect::<Vec<_>>(), ["t", "v"]);
        assert!(left["t"].get_ref().get("c").is_some());
    }

    #[test]
    fn each_kind_of_error_is_said_in_our_words() {
        let cases = [
            ("a =\n", "1:4 there is no value after `=`"),
            ("a = mio\n", "1:5 `mio` is not a value / a string needs quotes: write \"mio\""),
            ("a = threads\n", "1:5 `threads` is not a value / a string needs quotes: write \"threads\""),
            ("workers\n", "1:8 key with no value, expected `=` / a line is `key = value` or `[table]`"),
            ("a = 1\na = 2\n", "2:1 `a` is given twice / keep one of the two"),
            ("[a]\n[b]\n[a]\n", "3:2 `a` is given twice / keep one of the two"),
            ("a = { b = 1, b = 2 }\n", "1:14 `b` is given twice / keep one of the two"),
            (
                "  server s1 1.2.3.4:80 check\n",
                "1:10 key with no value, expected `=` / that is HAProxy and nginx language; here it is [[pool.NAME.server]] with `name`, `addr` and `weight`",
            ),
            (
                "worker_processes auto;\n",
                "1:17 key with no value, expected `=` / that is HAProxy, nginx and Envoy language; here it is `workers` in [process]",
            ),
            (
                "a = [\n  { n = 1\n    m = 2 },\n]\n",
                "3:5 missing comma between key-value pairs, expected `,`",
            ),
            ("a = \"\"\"x\nb = 1\n", "1:9 invalid multi-line basic string, expected `\"`"),
        ];
        for (text, expected) in cases {
            assert_eq!(errors(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_lost_key_is_not_a_lost_table() {
        let recovered = recover("[pool.a]\nbalance round_robin\n");
        assert!(!recovered.lost_tables);
        assert_eq!(recovered.blanked, vec![Range { start: 9, end: 29 }]);
        assert!(recover("include = conf.d\n").lost_tables);
    }

    #[test]
    fn many_errors_are_found_in_little_time() {
        let text = "a = [\n\"b\nc d\n[e\n".repeat(500);
        assert_eq!(recover(&text).errors.len(), 1000);
    }
}
