//! The end of the page: what failed, whether the counts are right, who was measured, where and how, and what does not
//! follow from it.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::findings::Findings;
use super::words::kind;
use super::words::{NONE, capital, short};
use crate::lab::results::{Census, Count, Failure, Subject};

pub(super) fn failures(findings: &Findings) -> Markup {
    let failed = || findings.results.cells.iter().filter(|cell| !cell.failures.is_empty());
    if failed().next().is_none() {
        return html! {};
    }
    html! {
        section #failures aria-labelledby="failures-title" {
            h2 #failures-title { "Failures" }
            p {
                "A round that failed gives no figures. Below each cause stands what the proxy last wrote to its standard "
                "error."
            }
            @for cell in failed() {
                h3 { (cell.subject) ", " (cell.workload) }
                @for (rounds, failure) in alike(&cell.failures) {
                    p { span.bad { (rounds) ": " } (failure.cause) }
                    @if failure.last_words.trim().is_empty() {
                        p.muted { "It wrote nothing." }
                    } @else {
                        pre tabindex="0" { (failure.last_words.trim_end()) }
                    }
                }
            }
        }
    }
}

/// Each failure once, with the rounds in which it was the same: `Rounds 1, 2, 5`.
fn alike(failures: &[Failure]) -> Vec<(String, &Failure)> {
    let mut groups: Vec<(Vec<String>, &Failure)> = Vec::new();
    for failure in failures {
        let same = |(_, other): &&mut (Vec<String>, &Failure)| {
            other.cause == failure.cause && other.last_words == failure.last_words
        };
        match groups.iter_mut().find(same) {
            Some((rounds, _)) => rounds.push(failure.round.to_string()),
            None => groups.push((vec![failure.round.to_string()], failure)),
        }
    }
    let titled = |(rounds, failure): (Vec<String>, _)| {
        (format!("Round{} {}", if rounds.len() == 1 { "" } else { "s" }, rounds.join(", ")), failure)
    };
    groups.into_iter().map(titled).collect()
}

pub(super) fn census(findings: &Findings) -> Markup {
    let cells = &findings.results.cells;
    let counted: Vec<_> = cells.iter().filter_map(|cell| Some((cell, cell.census.as_ref()?))).collect();
    let [agree, differ] = [true, false].map(|agree| {
        let of_own = counted.iter().filter(|(_, census)| census.own.is_some());
        of_own.filter(|(_, census)| census.differences.is_empty() == agree).count()
    });
    html! {
        section #census aria-labelledby="census-title" {
            h2 #census-title { "System calls, counted twice" }
            p {
                "This program counts its own system calls. For a few messages a tracer counted them too, from outside; it "
                "slows a proxy down, so no time is taken then. Of others' proxies the tracer's count is all there is."
            }
            @if counted.is_empty() {
                p { "No tracer was at hand in this run, so nothing confirms the program's own counters here." }
            } @else {
                p {
                    strong { "The two agree in " (agree) " of " (agree + differ) " cells" }
                    @if differ > 0 { ", and differ in " (differ) ":" } @else { "." }
                }
                @if differ > 0 {
                    ul {
                        @for (cell, census) in &counted {
                            @for difference in &census.differences {
                                li { (cell.subject) ", " (cell.workload) ": " (difference) }
                            }
                        }
                    }
                }
                @for (cell, census) in counted { (both_counts(&cell.subject, &cell.workload, census)) }
            }
        }
    }
}

fn both_counts(subject: &str, workload: &str, census: &Census) -> Markup {
    let own = census.own.as_ref();
    let called = |(name, count): (&String, &Count)| (count.calls > 0).then(|| name.clone());
    let counts = census.traced.iter().chain(own.into_iter().flatten());
    let names: BTreeSet<String> = counts.filter_map(called).collect();
    let calls =
        |count: Option<&Count>| count.map_or_else(|| NONE.to_owned(), |count| short(count.calls as f64));
    html! {
        details {
            summary { (subject) ", " (workload) ": " (short(census.messages)) " messages, by " (census.tracer) }
            div.scroll tabindex="0" role="region" aria-label={ "Census: " (subject) ", " (workload) } {
                table {
                    caption { "Calls, and how many of them failed (EAGAIN included)." }
                    thead {
                        tr {
                            @for column in ["call", "traced", "failed", "counted", "failed"] { th scope="col" { (column) } }
                        }
                    }
                    tbody {
                        @for name in &names {
                            tr {
                                th scope="row" { (name) }
                                @for count in [census.traced.get(name), own.and_then(|own| own.get(name))] {
                                    td { (calls(count)) }
                                    td { @match count { Some(count) => (count.failed), None => (NONE) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn subjects(findings: &Findings) -> Markup {
    html! {
        section #subjects aria-labelledby="subjects-title" {
            h2 #subjects-title { "Who was measured" }
            p { "With its version, its command line and its configuration, so that you can see whether it was treated fairly." }
            @for subject in &findings.results.subjects { (configuration(subject)) }
        }
    }
}

fn configuration(subject: &Subject) -> Markup {
    html! {
        details {
            summary {
                strong { (subject.name) } " (" (kind(subject)) ") " (subject.version)
                @if subject.absent.is_some() { span.bad { " not measured" } }
            }
            @if let Some(why) = &subject.absent { p { (capital(why)) } }
            @if !subject.command.is_empty() { pre tabindex="0" { (subject.command) } }
            @if !subject.configuration.is_empty() { pre tabindex="0" { (subject.configuration.trim_end()) } }
        }
    }
}

pub(super) fn machine(findings: &Findings) -> Markup {
    let about = &findings.results.about;
    html! {
        section #machine aria-labelledby="machine-title" {
            h2 #machine-title { "The machine" }
            dl.facts {
                dt { "processor" } dd { (about.processor) }
                dt { "kernel" } dd { (about.kernel) }
                @for (name, value) in &about.facts { dt { (name) } dd { (value) } }
                dt { "the run took" } dd { (short(about.took / 60.0)) " minutes" }
            }
        }
    }
}

pub(super) fn method(findings: &Findings) -> Markup {
    let about = &findings.results.about;
    html! {
        section #method aria-labelledby="method-title" {
            h2 #method-title { "The method" }
            ul {
                li {
                    "One proxy with one worker stands between clients and back ends on this machine's loopback. Between the "
                    "engines nothing is changed but the engine."
                }
                li {
                    "A round measures every subject once, for " (about.window) " s, one after the other; then the next "
                    "round begins. Ratios are taken within a round, so that what slows the machine for some minutes weighs on "
                    "both sides of them."
                }
                li {
                    "The cost of a proxy is the CPU time of all its processes and threads, as the kernel accounts it. It "
                    "holds even where the clients limit the throughput."
                }
                li {
                    "Intervals are 95\u{a0}% confidence intervals of the median by the bootstrap. Fewer than six rounds do not "
                    "support one: then their range is given, and only a difference above a quarter is called one. Fewer than "
                    "three rounds are called nothing."
                }
                li { "A message is half of a request and its reply. Bytes copied for a byte moved: 2 is once in and once out." }
            }
            p { "The whole of it, with its reasons, is in the file docs/method.md of the program's source." }
        }
    }
}

pub(super) fn not_claimed() -> Markup {
    html! {
        section #limits aria-labelledby="limits-title" {
            h2 #limits-title { "What is not claimed" }
            ul {
                li {
                    "Loopback is not a network: there is no driver and no wire, and the work of receiving is charged to "
                    "whoever sends. That is a cost that all proxies have alike, so it makes differences look smaller."
                }
                li { "Latency under a closed loop (ping-pong with many connections) restates throughput. The workload at a fixed rate does not." }
                li { "Throughput in absolute numbers belongs to this machine on this day." }
                li {
                    "The best engine of a workload was picked after it was measured, out of several: its lead is a little "
                    "flattered. The table at a glance has each engine by itself."
                }
                li {
                    "There are many comparisons here, and each interval is wrong once in twenty times: among twenty cells "
                    "without any difference, one will show one."
                }
                li {
                    "Others' proxies do more than this one on the same path. Their configurations are above; who knows a "
                    "better one is asked to say so."
                }
                li { "In the row direct there is no proxy: its CPU time is the back end's." }
            }
        }
    }
}
