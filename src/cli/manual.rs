//! `tidegate man` and `tidegate completions`: what the shell and man(1) know of the command line, made from the command
//! line itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::say::say;

/// The name of the program, of its page and of what completes it.
const NAME: &str = "tidegate";

/// `tidegate completions …`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Whose language it is written in
    shell: Shell,
}

/// `tidegate man …`.
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Write a page for each command into this directory, which is made if need be
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Completions {
    /// Writes the script to the standard output.
    pub(super) fn execute(&self, command: &Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut shown(command), NAME, &mut script);
        Ok(say(String::from_utf8(script)?)?)
    }
}

impl Manual {
    /// Writes the page of the program to the standard output, or all pages to files.
    pub(super) fn execute(&self, command: &Command) -> anyhow::Result<()> {
        let mut command = shown(command);
        command.build();
        let Some(folder) = &self.out else {
            return Ok(say(page(&command)?)?);
        };
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write_pages(&command, folder)
    }
}

/// The command without those that are for itself only.
fn shown(command: &Command) -> Command {
    let mut shown = Command::new(NAME).disable_help_subcommand(true).subcommand_required(true);
    shown = shown.subcommands(command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned());
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(help) = command.get_after_help() {
        shown = shown.after_help(help.clone());
    }
    shown.version(env!("CARGO_PKG_VERSION"))
}

/// Writes the page of a command, and those of the commands below it.
fn write_pages(command: &Command, folder: &Path) -> anyhow::Result<()> {
    let file = folder.join(Man::new(command.clone()).get_filename());
    fs::write(&file, page(command)?).with_context(|| format!("cannot write {}", file.display()))?;
    command.get_subcommands().try_for_each(|inner| write_pages(inner, folder))
}

/// One page, in the language of man(7).
fn page(command: &Command) -> anyhow::Result<String> {
    // An empty date would be left out, and what follows take its place.
    let man = Man::new(command.clone()).date(" ").source(concat!("tidegate ", env!("CARGO_PKG_VERSION")));
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let parts = Part::of(&help);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let mut prose = Roff::new();
    for part in parts.iter().filter(|part| part.title.is_empty()) {
        prose.control("PP", []);
        for line in &part.lines {
            prose.text([roman(*line)]);
        }
    }
    prose.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut sections = Roff::new();
    for Part { title, lines } in parts.iter().filter(|part| !part.title.is_empty()) {
        sections.control("SH", [title.to_uppercase().as_str()]);
        // As it is: columns and examples.
        sections.control("nf", []);
        for line in lines {
            sections.text([roman(*line)]);
        }
        sections.control("fi", []);
    }
    sections.to_writer(&mut page)?;
    Ok(plain(&String::from_utf8(page)?))
}

/// Letters that are not of ASCII as troff has them whatever the encoding is: groff_char(7).
fn plain(page: &str) -> String {
    let written = |letter: char| {
        if letter.is_ascii() { letter.to_string() } else { format!("\\[u{:04X}]", u32::from(letter)) }
    };
    page.chars().map(written).collect()
}

/// A part of what the help says at its end: `Examples:` and the lines below, or a paragraph without a title.
#[derive(Debug, PartialEq, Eq)]
struct Part<'t> {
    title: &'t str,
    lines: Vec<&'t str>,
}

impl<'t> Part<'t> {
    /// The parts of a text, between which there are empty lines.
    fn of(text: &'t str) -> Vec<Self> {
        let parts = text.split("\n\n").filter(|part| !part.trim().is_empty());
        parts.map(|part| Self::one(part.lines().collect())).collect()
    }

    fn one(mut lines: Vec<&'t str>) -> Self {
        let is_title = |(title, rest): &(&str, &str)| rest.is_empty() || title.split(' ').count() <= 2;
        let Some((title, rest)) = lines[0].split_once(':').filter(is_title) else {
            return Self { title: "", lines };
        };
        if rest.is_empty() {
            lines.remove(0);
        } else {
            lines[0] = rest.trim_start();
        }
        Self { title, lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_help_is_taken_apart() {
        let text =
            "Some words\nand more: words.\n\nExamples:\n  tidegate run\n\nExit codes: 0 success,\n1 errors.";
        let part = |title, lines| Part { title, lines };
        let expected = [
            part("", vec!["Some words", "and more: words."]),
            part("Examples", vec!["  tidegate run"]),
            part("Exit codes", vec!["0 success,", "1 errors."]),
        ];
        assert_eq!(Part::of(text), expected);
        assert_eq!(Part::of(""), []);
    }
}
