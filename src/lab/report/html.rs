//! The page: its head, the answer, and all at a glance. What follows is in `sections` and `appendix`.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::{self, RatioRow};
use super::findings::{Findings, Measure, Standing};
use super::verdict::{Outcome, Question, Verdict, questions};
use super::words::{capital, counted, cut, kind, ratio};
use super::{appendix, palette, sections};
use crate::lab::results::{Kind, Subject, WorkloadInfo};
use crate::lab::statistics::Summary;

const STYLE: &str = include_str!("style.css");

/// The whole file.
pub(super) fn page(findings: &Findings) -> String {
    let about = &findings.results.about;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "tidegate lab, " (about.date) }
                style { (PreEscaped(palette::css())) (PreEscaped(STYLE)) }
            }
            body {
                header { (head(findings)) }
                main {
                    (answer(findings))
                    (glance(findings))
                    (sections::workloads(findings))
                    (appendix::failures(findings))
                    (appendix::census(findings))
                    (appendix::subjects(findings))
                    (appendix::machine(findings))
                    (appendix::method(findings))
                    (appendix::not_claimed())
                }
            }
        }
    };
    page.into_string()
}

fn head(findings: &Findings) -> Markup {
    let about = &findings.results.about;
    let mut warnings = about.warnings.clone();
    if about.interrupted {
        warnings.push("The run was interrupted: some cells have fewer rounds, or none.".to_owned());
    }
    if about.quick {
        warnings.push("A quick run (--quick): few rounds and few workloads, for a first look.".to_owned());
    }
    html! {
        h1 { "tidegate lab" }
        p.muted {
            (about.version) ", " (about.date) "; " (about.processor) "; " (about.kernel) "; "
            (counted(about.rounds as usize, "round")) " of " (about.window) " s asked for"
        }
        @if !warnings.is_empty() {
            div.warning {
                strong { "Read these figures with care" }
                ul { @for warning in &warnings { li { (capital(warning)) } } }
            }
        }
        nav aria-label="Contents" {
            ul {
                @for (id, name) in contents(findings) { li { a href={ "#" (id) } { (name) } } }
            }
        }
    }
}

fn contents(findings: &Findings) -> Vec<(&'static str, &'static str)> {
    let failed = findings.results.cells.iter().any(|cell| !cell.failures.is_empty());
    let all = [
        ("answer", "The answer"),
        ("glance", "At a glance"),
        ("workloads", "Workload by workload"),
        ("failures", "Failures"),
        ("census", "System calls, counted twice"),
        ("subjects", "Who was measured"),
        ("machine", "The machine"),
        ("method", "The method"),
        ("limits", "What is not claimed"),
    ];
    all.into_iter().filter(|(id, _)| failed || *id != "failures").collect()
}

/// All answers in a sentence each, then what they are made of.
fn answer(findings: &Findings) -> Markup {
    let questions = questions(findings);
    html! {
        section.answer #answer aria-labelledby="answer-title" {
            h2 #answer-title { "The answer" }
            @for question in &questions {
                h3 { (question.title) }
                p.headline { (question.headline) }
                @if let Some(why) = &question.why { p.why { (why) "." } }
            }
            @for (place, question) in questions.iter().enumerate().filter(|(_, it)| !it.verdicts.is_empty()) {
                details open[place == 0] {
                    summary { strong { (question.title) } " – workload by workload" }
                    div.compared {
                        (compared(findings, question))
                        ul.verdicts { @for verdict in &question.verdicts { (said(verdict)) } }
                    }
                }
            }
        }
    }
}

fn said(verdict: &Verdict) -> Markup {
    let (sign, meaning) = match verdict.outcome {
        Outcome::Less => ("−", "less"),
        Outcome::More => ("+", "more"),
        Outcome::Same => ("=", "no difference shown"),
        Outcome::TooFew => ("?", "too few rounds"),
        Outcome::Failed => ("!", "failed"),
    };
    html! {
        li {
            span.sign.bad[verdict.outcome == Outcome::Failed] role="img" aria-label=(meaning) { (sign) }
            (verdict.sentence) "."
            @if let Some(why) = &verdict.why { span.why { (why) "." } }
        }
    }
}

/// The ratios of a question as a picture.
fn compared(findings: &Findings, question: &Question) -> Markup {
    let row = |verdict: &Verdict| {
        Some(RatioRow { name: verdict.workload.clone(), outcome: verdict.outcome, ratio: verdict.ratio? })
    };
    let rows: Vec<RatioRow> = question.verdicts.iter().filter_map(row).collect();
    let Some(first) = question.verdicts.first() else { return html! {} };
    let same = question.verdicts.iter().all(|verdict| verdict.subject == first.subject);
    let subject = if same { first.subject.clone() } else { "the best engine".to_owned() };
    let what = format!("Cost of {subject} as a multiple of {}'s", first.reference);
    let memory = rows.iter().any(|row| {
        let info = findings.results.workload(&row.name);
        info.is_some_and(|info| Measure::of(info.work) != Measure::Cpu)
    });
    html! {
        @if !rows.is_empty() {
            figure {
                figcaption {
                    b { (what) } ": left of 1 is cheaper; points are medians, lines 95\u{a0}% intervals, hollow points show no "
                    "difference. The cost is CPU"
                    @if memory { "; of idle and slow-readers memory, of first-byte and rate time" }
                    "."
                }
                (charts::ratios(&what, &rows))
            }
        }
    }
}

fn glance(findings: &Findings) -> Markup {
    let workloads = &findings.results.workloads;
    html! {
        section #glance aria-labelledby="glance-title" {
            h2 #glance-title { "At a glance" }
            @if let Some(reference) = findings.reference() {
                div.scroll tabindex="0" role="region" aria-label="All subjects and workloads" {
                    table.heat {
                        caption {
                            span {
                                "Cost as a multiple of " strong { (reference.name) } "'s in the same rounds: 0.50 is half of it. "
                                "The cost is CPU time for a unit of work; for connections that idle or stall memory, for the "
                                "first byte and at a fixed rate time. A cell has a colour only where a difference is shown that is above 5\u{a0}%."
                            }
                            (scale())
                        }
                        thead {
                            tr {
                                th scope="col" { "subject" }
                                @for (number, info) in workloads.iter().enumerate() {
                                    th scope="col" { a href={ "#w" (number) } title=(info.title) { (info.name) } }
                                }
                            }
                        }
                        tbody { @for subject in &findings.results.subjects { (glance_row(findings, subject, reference)) } }
                    }
                }
            } @else {
                p { "Neither haproxy nor mio has a round that succeeded, so there is nothing to compare the others with." }
            }
        }
    }
}

fn scale() -> Markup {
    let steps = [
        ("less3", "up to 0.5"),
        ("less2", "up to 0.75"),
        ("less1", "up to 0.95"),
        ("more1", "from 1.05"),
        ("more2", "from 1.33"),
        ("more3", "from 2"),
    ];
    html! {
        ul.legend {
            @for (class, meaning) in steps { li { span class={ "swatch " (class) } {} (meaning) } }
        }
    }
}

fn glance_row(findings: &Findings, subject: &Subject, reference: &Subject) -> Markup {
    let workloads = &findings.results.workloads;
    html! {
        tr {
            th scope="row" { (subject.name) small { (kind(subject)) } }
            @if let Some(why) = &subject.absent {
                td.skipped colspan=(workloads.len().max(1)) { span { "not measured: " (why) } }
            } @else {
                @for info in workloads { (glance_cell(findings, subject, reference, info)) }
            }
        }
    }
}

fn glance_cell(findings: &Findings, subject: &Subject, reference: &Subject, info: &WorkloadInfo) -> Markup {
    match findings.standing(&subject.name, &info.name) {
        Standing::Failed(failure) => html! {
            td.failed { a href="#failures" { "failed" } small { (cut(&failure.cause)) } }
        },
        Standing::Skipped(why) => html! { td.skipped { "skipped" small { (cut(why)) } } },
        Standing::Measured(figures) => {
            let compared = findings.ratio(info, &subject.name, &reference.name);
            let class = compared.as_ref().filter(|_| subject.kind != Kind::Direct).map_or("none", heat);
            html! {
                td class=(class) {
                    @match compared { Some(compared) => (ratio(compared.median)), None => "no common round" }
                    @if figures.failures > 0 { small.bad { (figures.failures) " failed" } }
                }
            }
        }
    }
}

/// The class of a ratio: how far it is from 1, if it is shown to be away from it.
fn heat(ratio: &Summary) -> &'static str {
    match (Outcome::of(ratio), ratio.median) {
        (Outcome::Less, ..=0.5) => "less3",
        (Outcome::Less, ..=0.75) => "less2",
        (Outcome::Less, ..=0.95) => "less1",
        (Outcome::More, 2.0..) => "more3",
        (Outcome::More, 1.33..) => "more2",
        (Outcome::More, 1.05..) => "more1",
        _ => "none",
    }
}
