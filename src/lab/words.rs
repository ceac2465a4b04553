//! What other programs said, as it can stand in a report.

/// Characters of [`last_words`] at most.
const WORDS_MAX: usize = 400;

/// The last lines that a proxy wrote, for a report: at most 400 characters, and of paths only the files' names.
#[must_use]
pub fn last_words(stderr: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut room = WORDS_MAX;
    for line in stderr.trim().lines().rev() {
        let line = without_folders(line.trim_end());
        let length = line.chars().count();
        if length > room && words.is_empty() {
            words.push(line.chars().take(WORDS_MAX - 1).chain(['…']).collect());
        }
        if length > room {
            break;
        }
        // The line's end counts too.
        room = room.saturating_sub(length + 1);
        words.push(line);
    }
    words.reverse();
    words.join("\n")
}

/// The text with the name of the file in place of each absolute path. What follows a colon is part of a URL.
pub(super) fn without_folders(text: &str) -> String {
    let of_path = |letter: char| letter.is_alphanumeric() || "/._-+~@%".contains(letter);
    let mut short = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('/') {
        let (before, from) = rest.split_at(start);
        let (path, behind) = from.split_at(from.find(|letter| !of_path(letter)).unwrap_or(from.len()));
        short.push_str(before);
        let inside =
            short.ends_with(|letter: char| of_path(letter) || letter == ':' && path.starts_with("//"));
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        short.push_str(if inside || name.is_empty() { path } else { name });
        rest = behind;
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_lines_without_folders() {
        let said = "first\n[emerg] open() \"/var/log/x/nginx.log\" failed (2: No such file) in /etc/nginx/nginx.conf:3\n";
        let words = "first\n[emerg] open() \"nginx.log\" failed (2: No such file) in nginx.conf:3";
        assert_eq!(last_words(said), words);
        assert_eq!(
            last_words("see https://haproxy.org/ or a/b, 1 / 2, 10.0.0.0/8"),
            "see https://haproxy.org/ or a/b, 1 / 2, 10.0.0.0/8"
        );
        let many = (0..1_000).map(|line| format!("line {line}\n")).collect::<String>();
        let words = last_words(&many);
        assert!(
            words.ends_with("line 999") && words.starts_with("line ") && words.len() <= WORDS_MAX,
            "{words}"
        );
        let long = last_words(&"x".repeat(1_000));
        assert!(long.chars().count() == WORDS_MAX && long.ends_with('…'), "{long}");
        assert_eq!(last_words("\n"), "");
    }
}
