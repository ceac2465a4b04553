//! Rust source as text: enough of its grammar to find words, paths and functions in it.

/// A path that begins with `crate` or `std`, in a `use` or anywhere else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The line, from 0.
    pub(crate) line: usize,
    /// `crate` or `std`.
    pub(crate) root: String,
    /// What follows, without the root; a group gives one path for each of its members.
    pub(crate) path: Vec<String>,
}

/// The text with everything in comments and in string and character literals replaced by blanks; lines stay.
pub(crate) fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = comment(rest).or_else(|| literal(rest, &out));
        let Some(length) = length else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().map(|char| if char == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    out
}

/// The length of the comment at the start of `text`.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if depth > 0 && text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else if depth > 0 {
            at += text[at..].chars().next()?.len_utf8();
        }
        if depth == 0 {
            return (at > 0).then_some(at);
        }
    }
}

/// The length of the string or character literal at the start of `text`, which stands behind `before`.
fn literal(text: &str, before: &str) -> Option<usize> {
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let is_word =
            before.ends_with(|char: char| char.is_alphanumeric() || char == '_') && !before.ends_with('b');
        let body = raw[hashes..].strip_prefix('"').filter(|_| !is_word)?;
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(2 + hashes + body.find(&end)? + end.len());
    }
    let quote = text.chars().next().filter(|char| ['"', '\''].contains(char))?;
    let mut escaped = false;
    let end = text[1..].char_indices().find(|(_, char)| {
        let ends = *char == quote && !escaped;
        escaped = *char == '\\' && !escaped;
        ends
    })?;
    // A lifetime has no second quote one character on: 'a, but 'a' and '\n'.
    let is_lifetime = quote == '\'' && !text[1..].starts_with('\\') && text[1..].chars().nth(1) != Some('\'');
    (!is_lifetime).then_some(end.0 + 2)
}

fn is_of_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Whether `word` stands in `code` as a word of its own.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.ends_with(is_of_word) && !after.starts_with(is_of_word)
    })
}

/// Every path from `crate` or `std` in `code`, which is blanked.
pub(crate) fn uses(code: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for root in ["crate", "std"] {
        let start = format!("{root}::");
        for (at, _) in code.match_indices(&start).filter(|(at, _)| !code[..*at].ends_with(is_of_word)) {
            let line = code[..at].matches('\n').count();
            let mut paths = Vec::new();
            members(&code[at + start.len()..], &[], &mut paths);
            found.extend(paths.into_iter().map(|path| Use { line, root: root.to_string(), path }));
        }
    }
    found
}

/// The paths that `text` begins with, each behind `prefix`; returns what follows them.
fn members<'a>(text: &'a str, prefix: &[String], out: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut group) = text.strip_prefix('{') {
        loop {
            group = members(group, prefix, out).trim_start();
            match group.chars().next() {
                Some(',') => group = &group[1..],
                Some(_) => return &group[1..],
                None => return group,
            }
        }
    }
    let end = text.find(|char| !is_of_word(char)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut path = prefix.to_vec();
    if word == "self" {
        out.push(path);
        return rest;
    }
    if word.is_empty() {
        // The end of a group, or `*`, which counts as a name: whatever is behind it is used.
        if let Some(rest) = rest.strip_prefix('*') {
            path.push("*".to_string());
            out.push(path);
            return rest;
        }
        return rest;
    }
    path.push(word.to_string());
    if let Some(more) = rest.strip_prefix("::").filter(|more| !more.starts_with('<')) {
        return members(more, &path, out);
    }
    out.push(path);
    // A new name: `Shutdown as End`.
    rest.trim_start().strip_prefix("as ").map_or(rest, |renamed| {
        let renamed = renamed.trim_start();
        &renamed[renamed.find(|char| !is_of_word(char)).unwrap_or(renamed.len())..]
    })
}

/// The names of all functions in `code`, which is blanked.
pub(crate) fn functions(code: &str) -> Vec<String> {
    let starts = code.match_indices("fn ").filter(|(at, _)| !code[..*at].ends_with(is_of_word));
    starts
        .map(|(at, start)| code[at + start.len()..].trim_start())
        .map(|rest| rest[..rest.find(|char| !is_of_word(char)).unwrap_or(rest.len())].to_string())
        .filter(|name| !name.is_empty())
        .collect()
}

mod tests {
    use super::*;

    fn paths(code: &str) -> Vec<String> {
        uses(code).into_iter().map(|it| format!("{}:{}:{}", it.line, it.root, it.path.join("."))).collect()
    }

    #[test]
    fn comments_and_literals_are_blank() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d\n */ e", "a               \n    e"),
            ("f(\"x \\\" y\") z", "f(        ) z"),
            ("f(r#\"x \" y\"#) z", "f(          ) z"),
            ("f(br\"x\\\") z", "f(b     ) z"),
            ("'\"' g", "    g"),
            ("'\\'' g", "     g"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("bar\"x\"", "bar   "),
            ("'ü' g", "    g"),
        ] {
            assert_eq!(blank(text), code, "{text:?}");
        }
    }

    #[test]
    fn paths_are_found_in_groups_and_in_code() {
        assert_eq!(paths("use crate::a::B;"), ["0:crate:a.B"]);
        assert_eq!(
            paths("\nuse std::net::{self, IpAddr as A, x::{Y, Z}};"),
            ["1:std:net", "1:std:net.IpAddr", "1:std:net.x.Y", "1:std:net.x.Z"]
        );
        assert_eq!(paths("use crate::{\n    a::B,\n    c,\n};"), ["0:crate:a.B", "0:crate:c"]);
        assert_eq!(paths("crate::demo::serve(&x, crate::y)"), ["0:crate:demo.serve", "0:crate:y"]);
        assert_eq!(paths("Vec::<std::net::IpAddr>::new()"), ["0:std:net.IpAddr"]);
        assert_eq!(paths("use crate::sys::*;"), ["0:crate:sys.*"]);
        assert_eq!(paths("mycrate::a"), [] as [&str; 0]);
    }

    #[test]
    fn words_stand_alone() {
        assert!(has_word("let x = unsafe { f() }", "unsafe"));
        assert!(!has_word("deny(unsafe_code)", "unsafe"));
        assert!(has_word("mio::Poll", "mio"));
        assert!(!has_word("by_mio", "mio"));
    }

    #[test]
    fn functions_have_names() {
        assert_eq!(
            functions("pub fn one() {}\nconst fn two<T>() {} type F = fn (u8); fn(u8)"),
            ["one", "two"]
        );
    }
}
