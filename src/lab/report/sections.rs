//! Workload by workload: charts and all figures.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::charts::{self, Bar, Frame, Gap, Stack};
use super::findings::{Calls, Figures, Findings, Measure, Standing, trust};
use super::palette::{Colour, OTHER_PARTS, PARTS, PEER, READINESS};
use super::words::{NONE, bytes, capital, counted, cpu_scale, cut, duration, kind, per_second, ratio, short};
use crate::lab::results::{DISTURBED, Kind, Subject, WorkloadInfo};
use crate::lab::statistics::Summary;
use crate::lab::workload::Work;

pub(super) fn workloads(findings: &Findings) -> Markup {
    let names = common_calls(findings);
    html! {
        section #workloads aria-labelledby="workloads-title" {
            h2 #workloads-title { "Workload by workload" }
            p {
                "A bar is the median of the rounds, the line across it the 95\u{a0}% interval of that median (of fewer than "
                "six rounds: their range). Colours tell who does the I/O how:"
            }
            (families(findings))
            @for (number, info) in findings.results.workloads.iter().enumerate() {
                section aria-labelledby={ "w" (number) } {
                    h3 id={ "w" (number) } { (info.name) ": " (info.title) }
                    (workload(findings, info, &names))
                }
            }
        }
    }
}

/// Which colour is whose.
fn families(findings: &Findings) -> Markup {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for subject in &findings.results.subjects {
        let colour = Colour::of(subject).name;
        if !seen.iter().any(|(_, known)| *known == colour) {
            seen.push((kind(subject), colour));
        }
    }
    html! {
        ul.legend { @for (name, colour) in seen { li { (swatch(colour)) (name) } } }
    }
}

fn swatch(colour: &str) -> Markup {
    html! { span.swatch style={ "background:var(--" (colour) ")" } {} }
}

fn workload(findings: &Findings, info: &WorkloadInfo, names: &BTreeMap<String, usize>) -> Markup {
    html! {
        div.workload {
            div.side {
                @if Measure::of(info.work) == Measure::Memory {
                    (memory(findings, info))
                } @else {
                    (costs(findings, info))
                    (calls(findings, info, names))
                }
            }
            div.tables { (figures(findings, info)) (calls_by_name(findings, info)) }
        }
        @if info.work == Work::Rate { (curves(findings, info)) }
    }
}

/// The bars of what the workload is judged by.
fn costs(findings: &Findings, info: &WorkloadInfo) -> Markup {
    let measure = Measure::of(info.work);
    let (scale, unit) = match measure {
        Measure::Cpu => cpu_scale(info.unit),
        _ => (1.0, "µs".to_owned()),
    };
    let scaled = |summary: Summary| Summary {
        median: summary.median * scale,
        interval: summary.interval.map(|end| end * scale),
        ..summary
    };
    let bar = |subject: &Subject| Bar {
        name: subject.name.clone(),
        colour: Colour::of(subject),
        value: shown(findings, subject, info).and_then(|it| it.cost.map(scaled).ok_or(NOT_MEASURED)),
    };
    let bars: Vec<Bar> = findings.results.subjects.iter().map(bar).collect();
    let what = format!("{}, {unit}", capital(&measure.name(info.unit)));
    html! {
        figure {
            figcaption { b { (what) } " (less is better)" }
            (charts::bars(&format!("{}: {what}", info.title), &bars))
        }
    }
}

const NOT_MEASURED: Gap = Gap { text: "not measured", failed: false };

/// The figures of a row, or why it has none.
fn shown<'a>(findings: &'a Findings, subject: &Subject, info: &WorkloadInfo) -> Result<&'a Figures, Gap> {
    match findings.standing(&subject.name, &info.name) {
        Standing::Measured(figures) => Ok(figures),
        Standing::Failed(_) => Err(Gap { text: "failed", failed: true }),
        Standing::Skipped(_) => Err(NOT_MEASURED),
    }
}

/// The system calls that have a colour of their own, everywhere the same: those that are most of a message's calls, over
/// all workloads and subjects.
fn common_calls(findings: &Findings) -> BTreeMap<String, usize> {
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for info in &findings.results.workloads {
        let of_subjects = findings.results.subjects.iter();
        for calls in
            of_subjects.filter_map(|subject| findings.figures(&subject.name, &info.name)?.calls.as_ref())
        {
            for (name, count) in &calls.by_name {
                *shares.entry(name).or_default() += count / calls.total().max(f64::MIN_POSITIVE);
            }
        }
    }
    let mut by_share: Vec<_> = shares.into_iter().collect();
    by_share.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    by_share
        .into_iter()
        .take(PARTS.len())
        .enumerate()
        .map(|(place, (name, _))| (name.to_owned(), place))
        .collect()
}

/// The stacked bars of system calls.
fn calls(findings: &Findings, info: &WorkloadInfo, names: &BTreeMap<String, usize>) -> Markup {
    let parts = |calls: &Calls| {
        let mut parts: Vec<(&'static Colour, f64)> = PARTS.iter().map(|colour| (colour, 0.0)).collect();
        parts.push((&OTHER_PARTS, 0.0));
        for (name, count) in &calls.by_name {
            parts[names.get(name).copied().unwrap_or(PARTS.len())].1 += count;
        }
        parts
    };
    let stack = |subject: &Subject| {
        let calls = shown(findings, subject, info)
            .and_then(|figures| figures.calls.as_ref().ok_or(Gap { text: "not counted", failed: false }));
        let mark = if calls.as_ref().is_ok_and(|calls| calls.traced) { "*" } else { "" };
        Stack { name: subject.name.clone(), parts: calls.map(parts), mark }
    };
    let proxies = || findings.results.subjects.iter().filter(|subject| subject.kind != Kind::Direct);
    let counted: Vec<Stack> = proxies().map(stack).collect();
    if counted.iter().all(|stack| stack.parts.is_err()) {
        return html! {};
    }
    let used = |place: usize| {
        let mut sizes = counted.iter().filter_map(|stack| Some(stack.parts.as_ref().ok()?[place].1));
        sizes.any(|size| size > 0.0)
    };
    let mut legend: Vec<(&str, &str)> = names
        .iter()
        .filter(|(_, place)| used(**place))
        .map(|(name, place)| (&**name, PARTS[*place].name))
        .collect();
    legend.sort_by_key(|(_, colour)| *colour);
    if used(PARTS.len()) {
        legend.push(("others", OTHER_PARTS.name));
    }
    let (message, _) = info.unit.message();
    let what = format!("System calls per {message}");
    html! {
        figure {
            figcaption { b { (what) } " (* by a tracer)" }
            (charts::stacked(&format!("{}: {what}", info.title), &counted, ratio))
            ul.legend { @for (name, colour) in legend { li { (swatch(colour)) (name) } } }
        }
    }
}

/// The stacked bars of memory.
fn memory(findings: &Findings, info: &WorkloadInfo) -> Markup {
    let stack = |subject: &Subject| {
        let memory = shown(findings, subject, info).and_then(|figures| figures.memory.ok_or(NOT_MEASURED));
        let parts =
            memory.map(|[private, kernel]| vec![(&READINESS, private.median), (&PEER, kernel.median)]);
        Stack { name: subject.name.clone(), parts, mark: "" }
    };
    let stacks: Vec<Stack> = findings.results.subjects.iter().map(stack).collect();
    let what = capital(&Measure::Memory.name(info.unit));
    html! {
        figure {
            figcaption { b { (what) } " (less is better)" }
            (charts::stacked(&format!("{}: {what}", info.title), &stacks, bytes))
            ul.legend {
                li { (swatch(READINESS.name)) "private to the proxy" }
                li { (swatch(PEER.name)) "the kernel's, for the sockets of proxy, client and back end" }
            }
        }
    }
}

/// Latency under growing load, a panel for each subject.
fn curves(findings: &Findings, info: &WorkloadInfo) -> Markup {
    let of = |subject: &Subject| findings.curve(&subject.name, &info.name);
    let curves: Vec<_> = findings.results.subjects.iter().map(|subject| (subject, of(subject))).collect();
    let points = |curve: &[super::findings::RateFigures]| -> Vec<(f64, [f64; 3])> {
        curve.iter().map(|point| (point.offered, point.latency)).collect()
    };
    let drawn: Vec<_> = curves.iter().map(|(subject, curve)| (*subject, points(curve))).collect();
    let Some(frame) = Frame::around(drawn.iter().map(|(_, curve)| &**curve)) else {
        return html! { p { "No round gave a latency at a fixed rate." } };
    };
    let reference = findings.reference();
    let grey = reference.map_or_else(Vec::new, |subject| points(&of(subject)));
    html! {
        p {
            b { "Latency against requests per second offered" } ", counted from when a request was to be sent. Circles: p50; "
            "triangles: p99; crosses: p99.9"
            @if let Some(reference) = reference { "; the thin grey line is " (reference.name) "'s p99" }
            ". The scale of latency is logarithmic."
        }
        div.panels {
            @for (subject, curve) in drawn.iter().filter(|(_, curve)| !curve.is_empty()) {
                figure {
                    figcaption { b { (subject.name) } " (" (kind(subject)) ")" }
                    (charts::latency(
                        &format!("{}: latency against requests per second", subject.name),
                        Colour::of(subject), curve, &grey, &frame,
                    ))
                }
            }
        }
        details {
            summary { "Latency at each rate, as a table" }
            div.scroll tabindex="0" role="region" aria-label="Latency at each rate" {
                table {
                    caption { "Medians of the rounds. A reply that falls behind its rate waits in the queue: the latency counts that." }
                    thead {
                        tr {
                            @for column in ["subject", "offered /s", "achieved /s", "p50", "p99", "p99.9", "CPU µs/request"] {
                                th scope="col" { (column) }
                            }
                        }
                    }
                    tbody {
                        @for (subject, curve) in &curves {
                            @for point in curve {
                                tr {
                                    th scope="row" { (subject.name) }
                                    td { (short(point.offered)) }
                                    td { (short(point.achieved)) }
                                    @for latency in point.latency { td { (duration(latency)) } }
                                    td { (short(point.cpu)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A column of the table of figures: its head, and what stands in it.
type Column = (String, Filling);
type Filling = Box<dyn Fn(&Figures) -> Option<Markup>>;

/// The table of all figures: no column that is empty.
fn figures(findings: &Findings, info: &WorkloadInfo) -> Markup {
    let subjects = &findings.results.subjects;
    let measured: Vec<&Figures> =
        subjects.iter().filter_map(|subject| findings.figures(&subject.name, &info.name)).collect();
    let filled = |(_, cell): &Column| measured.iter().any(|figures| cell(figures).is_some());
    let columns: Vec<Column> = columns(info).into_iter().filter(filled).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "Figures: " (info.title) } {
            table {
                caption {
                    span {
                        "Medians, and below them their intervals. " (counted(info.connections as usize, "connection")) "."
                        @if measured.iter().any(|figures| figures.limited_by_load()) {
                            " † The clients were busy (load CPU above 95\u{a0}%): throughput is the clients' limit here, "
                            "CPU per unit still holds."
                        }
                        @if let Some(disturbance) = disturbance(findings, info) { " " (disturbance) }
                    }
                }
                thead { tr { th scope="col" { "subject" } @for (head, _) in &columns { th scope="col" { (head) } } } }
                tbody { @for subject in subjects { (figures_row(findings, subject, info, &columns)) } }
            }
        }
    }
}

fn columns(info: &WorkloadInfo) -> Vec<Column> {
    let (message, _) = info.unit.message();
    let (scale, cpu) = cpu_scale(info.unit);
    let traced = |calls: &Calls| if calls.traced { "*" } else { "" };
    let column = |head: String, cell: Filling| (head, cell);
    let latency = |at: usize| {
        let cell = move |figures: &Figures| Some(with_interval(figures.latency?[at], duration));
        Box::new(cell) as Filling
    };
    vec![
        column(
            format!("CPU, {cpu}"),
            Box::new(move |it| Some(with_interval(it.cpu?, |cpu| short(cpu * scale)))),
        ),
        column(per_second(info.unit), Box::new(|it| Some(with_interval(it.throughput?, short)))),
        column("p50".to_owned(), latency(0)),
        column("p99".to_owned(), latency(1)),
        column("p99.9".to_owned(), latency(2)),
        column(
            "private bytes per connection".to_owned(),
            Box::new(|it| Some(with_interval(it.memory?[0], short))),
        ),
        column(
            "kernel bytes per connection".to_owned(),
            Box::new(|it| Some(with_interval(it.memory?[1], short))),
        ),
        column("peak RSS".to_owned(), Box::new(|it| Some(html! { (bytes(it.peak?.median)) }))),
        column(
            format!("calls per {message}"),
            Box::new(move |it| {
                let calls = it.calls.as_ref()?;
                Some(html! { (ratio(calls.total())) (traced(calls)) })
            }),
        ),
        column(
            format!("wake-ups per {message}"),
            Box::new(|it| Some(html! { (short(it.wake_ups?.median)) })),
        ),
        column("bytes copied per byte".to_owned(), Box::new(|it| Some(html! { (ratio(it.copied?.median)) }))),
        column("load CPU".to_owned(), Box::new(|it| Some(load_cpu(it.load_cpu?, it.limited_by_load())))),
        column("rounds".to_owned(), Box::new(|it| Some(rounds(it)))),
    ]
}

fn load_cpu(load: Summary, limited: bool) -> Markup {
    html! { (format!("{:.0}\u{a0}%", load.median * 100.0)) @if limited { " †" } }
}

fn rounds(figures: &Figures) -> Markup {
    html! { (figures.rounds) @if figures.failures > 0 { small.bad { (figures.failures) " failed" } } }
}

/// Says so when something else took CPU time from a round.
fn disturbance(findings: &Findings, info: &WorkloadInfo) -> Option<String> {
    let cells = findings.results.cells.iter().filter(|cell| cell.workload == info.name);
    let taken = cells.flat_map(|cell| &cell.rounds).map(|round| round.other_cpu.max(round.steal));
    let most = taken.fold(0.0, f64::max);
    (most > DISTURBED).then(|| format!("In the worst round others took {:.0}\u{a0}% of a CPU.", most * 100.0))
}

fn figures_row(findings: &Findings, subject: &Subject, info: &WorkloadInfo, columns: &[Column]) -> Markup {
    let span = columns.len().max(1);
    html! {
        tr {
            th scope="row" { (subject.name) }
            @match findings.standing(&subject.name, &info.name) {
                Standing::Measured(figures) => {
                    @for (_, cell) in columns { td { (cell(figures).unwrap_or_else(|| html! { (NONE) })) } }
                },
                Standing::Failed(failure) => td.failed colspan=(span) {
                    span { a href="#failures" { "failed" } ": " (cut(&failure.cause)) }
                },
                Standing::Skipped(why) => td.skipped colspan=(span) { span { "not measured: " (why) } },
            }
        }
    }
}

fn with_interval(summary: Summary, show: impl Fn(f64) -> String) -> Markup {
    html! {
        (show(summary.median))
        @if summary.rounds > 1 {
            small title=(trust(&summary, &show)) { (show(summary.interval[0])) " – " (show(summary.interval[1])) }
        }
    }
}

/// The system calls by name: what the stacked bars show, as numbers.
fn calls_by_name(findings: &Findings, info: &WorkloadInfo) -> Markup {
    let subjects = findings.results.subjects.iter();
    let counted: Vec<(&Subject, &Calls)> = subjects
        .filter_map(|subject| Some((subject, findings.figures(&subject.name, &info.name)?.calls.as_ref()?)))
        .collect();
    let mut names: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, count) in counted.iter().flat_map(|(_, calls)| &calls.by_name) {
        *names.entry(name).or_default() += count;
    }
    let mut names: Vec<_> = names.into_iter().filter(|(_, count)| *count >= 0.005).collect();
    names.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    if names.is_empty() {
        return html! {};
    }
    let (message, _) = info.unit.message();
    let cell = |calls: &Calls, name: &str| match calls.by_name.get(name) {
        Some(count) if *count >= 0.005 => format!("{count:.2}"),
        _ => NONE.to_owned(),
    };
    html! {
        details {
            summary { "System calls by name" }
            div.scroll tabindex="0" role="region" aria-label={ "System calls: " (info.title) } {
                table {
                    caption { "Calls per " (message) "; * seen by a tracer." }
                    thead { tr { th scope="col" { "subject" } th scope="col" { "all" } @for (name, _) in &names { th scope="col" { (name) } } } }
                    tbody {
                        @for (subject, calls) in counted {
                            tr {
                                th scope="row" { (subject.name) @if calls.traced { "*" } }
                                td { (format!("{:.2}", calls.total())) }
                                @for (name, _) in &names { td { (cell(calls, name)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
