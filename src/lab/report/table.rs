//! The report for a terminal: plain text in at most [`COLUMNS`] columns.

use std::fmt::Write;

use super::findings::{Figures, Findings, Measure, Standing};
use super::verdict::{Question, questions};
use super::words::{NONE, bytes, cpu_scale, duration, per_second, ratio, short};
use crate::lab::results::{Subject, WorkloadInfo};
use crate::lab::statistics::Summary;

/// No line is longer.
const COLUMNS: usize = 110;

/// What stands behind figures, and what it means.
const MARKS: [(&str, &str); 3] = [
    ("†", "the clients were busy: throughput is their limit here; CPU for a unit still holds"),
    ("*", "seen by a tracer in a few messages, not counted by the program"),
    ("!)", "so many rounds failed"),
];

/// Lines of a proxy's last words that are shown.
const LAST_WORDS: usize = 3;

/// The widths of the columns: the name to the left, the rest to the right.
const WIDTHS: [usize; 9] = [14, 10, 17, 11, 9, 9, 9, 9, 7];

pub(super) fn text(findings: &Findings) -> String {
    let mut text = String::new();
    for info in &findings.results.workloads {
        block(&mut text, findings, info);
    }
    for (mark, meaning) in MARKS {
        if text.contains(mark) {
            wrap(&mut text, &format!("{mark} "), meaning);
        }
    }
    text.push('\n');
    for Question { title, headline, why, verdicts, in_full } in questions(findings) {
        text += &format!("{title}\n");
        wrap(&mut text, "  ", &headline);
        if let Some(why) = why.filter(|_| !in_full) {
            wrap(&mut text, "  ", &why);
        }
        for verdict in verdicts.into_iter().filter(|_| in_full) {
            wrap(&mut text, "  - ", &verdict.sentence);
            if let Some(why) = verdict.why {
                wrap(&mut text, "    ", &why);
            }
        }
        text.push('\n');
    }
    for warning in &findings.results.about.warnings {
        wrap(&mut text, "Warning: ", warning);
    }
    if findings.results.about.interrupted {
        text += "Interrupted: some cells have fewer rounds, or none.\n";
    }
    text
}

fn block(text: &mut String, findings: &Findings, info: &WorkloadInfo) {
    let (_, cpu) = cpu_scale(info.unit);
    let (message, _) = info.unit.message();
    let heads = if Measure::of(info.work) == Measure::Memory {
        ["", "private", "interval", "kernel", "peak", "", "", "", "rounds"].map(str::to_owned)
    } else {
        let per_message = format!("calls/{}", if message == "message" { "msg" } else { "unit" });
        ["", "CPU", "interval", "throughput", "p50", "p99", &per_message, "copied", "rounds"]
            .map(str::to_owned)
    };
    let units = if Measure::of(info.work) == Measure::Memory {
        "bytes for a connection".to_owned()
    } else {
        format!("CPU in {cpu}, throughput in {}; a unit of calls is a {message}", per_second(info.unit))
    };
    wrap(text, "", &format!("{}: {} ({units})", info.name, info.title));
    line(text, &heads);
    for subject in &findings.results.subjects {
        row(text, findings, subject, info);
    }
    text.push('\n');
}

fn row(text: &mut String, findings: &Findings, subject: &Subject, info: &WorkloadInfo) {
    match findings.standing(&subject.name, &info.name) {
        Standing::Measured(figures) if Measure::of(info.work) == Measure::Memory => {
            line(text, &memory(subject, figures));
        }
        Standing::Measured(figures) => line(text, &busy(subject, figures, info)),
        Standing::Failed(failure) => {
            wrap(text, &format!("{:14} FAILED: ", subject.name), &failure.cause);
            let said: Vec<&str> = failure.last_words.lines().collect();
            for words in said.iter().skip(said.len().saturating_sub(LAST_WORDS)) {
                wrap(text, &format!("{:14} | ", ""), words);
            }
        }
        Standing::Skipped(why) => wrap(text, &format!("{:14} not measured: ", subject.name), why),
    }
}

fn busy(subject: &Subject, figures: &Figures, info: &WorkloadInfo) -> [String; 9] {
    let (scale, _) = cpu_scale(info.unit);
    let [p50, p99] = [0, 1].map(|at| figures.latency.map(|latency| latency[at]));
    let limited = if figures.limited_by_load() { "†" } else { "" };
    let calls = figures.calls.as_ref();
    [
        subject.name.clone(),
        median(figures.cpu, |cpu| short(cpu * scale)),
        interval(figures.cpu, |cpu| short(cpu * scale)),
        median(figures.throughput, short) + limited,
        median(p50, duration),
        median(p99, duration),
        calls.map_or_else(none, |calls| ratio(calls.total()) + if calls.traced { "*" } else { "" }),
        median(figures.copied, ratio),
        rounds(figures),
    ]
}

fn memory(subject: &Subject, figures: &Figures) -> [String; 9] {
    let [private, kernel] = figures.memory.map_or([None; 2], |memory| memory.map(Some));
    [
        subject.name.clone(),
        median(private, short),
        interval(private, short),
        median(kernel, short),
        median(figures.peak, bytes),
        String::new(),
        String::new(),
        String::new(),
        rounds(figures),
    ]
}

fn none() -> String {
    NONE.to_owned()
}

fn median(summary: Option<Summary>, show: impl Fn(f64) -> String) -> String {
    summary.map_or_else(none, |summary| show(summary.median))
}

fn interval(summary: Option<Summary>, show: impl Fn(f64) -> String) -> String {
    let several = summary.filter(|summary| summary.rounds > 1);
    several.map_or_else(none, |summary| {
        let [low, high] = summary.interval.map(show);
        format!("{low} – {high}")
    })
}

fn rounds(figures: &Figures) -> String {
    match figures.failures {
        0 => figures.rounds.to_string(),
        failures => format!("{} ({failures}!)", figures.rounds),
    }
}

fn line(text: &mut String, cells: &[String; 9]) {
    let mut line = String::new();
    for (place, (cell, width)) in cells.iter().zip(WIDTHS).enumerate() {
        // Writing to a string does not fail.
        let _ = if place == 0 { write!(line, "{cell:width$}") } else { write!(line, " {cell:>width$}") };
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// `words` behind `lead`, broken into lines that begin below its end. Only a word that is too long for a line makes a
/// longer one.
pub(in crate::lab) fn wrap(text: &mut String, lead: &str, words: &str) {
    let indent = " ".repeat(lead.chars().count());
    let mut line = lead.to_owned();
    let mut is_new = true;
    for word in words.split([' ', '\t', '\n']).filter(|word| !word.is_empty()) {
        if !is_new && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text.push_str(&line);
            text.push('\n');
            line.clone_from(&indent);
            is_new = true;
        }
        if !is_new {
            line.push(' ');
        }
        line.push_str(word);
        is_new = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
