//! The picture for a wall or a page: one SVG file that needs nothing else, for light and dark.

use maud::{Markup, PreEscaped, html};

use super::stage::{MESSAGE, THINKS, TRIES};
use super::steps::{Act, Deed, Life, Side, Step, explained};

/// Around everything and between two panels.
const MARGIN: i32 = 44;
/// A panel's width.
const PANEL: i32 = 780;
/// Where a panel's lanes begin, and the height of a step.
const TOP: i32 = 252;
const ROW: i32 = 38;
/// What is below the last step, the legend and the calls by name included.
const BOTTOM: i32 = 244;
/// In a panel: the ends of the times, the lanes of client and server, the kernel's bands and half of their width.
const TIMES: i32 = 52;
const PEERS: [i32; 2] = [82, 738];
const BANDS: [i32; 2] = [190, 630];
const HALF: i32 = 44;
/// From one thread to the next.
const THREADS: i32 = 120;
/// Half of the width of a thread that is awake.
const AWAKE: i32 = 5;
/// The width of a letter: of labels, of sentences, and of what is small.
const LETTERS: [i32; 3] = [7, 8, 6];

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif;fill:#1b1d20}
.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace}
.title{font-size:30px;font-weight:700}.lead{font-size:15px}.name{font-size:24px;font-weight:700}
.head{font-size:13px;font-weight:600}.label{font-size:12px;paint-order:stroke;stroke:#ffffff;stroke-width:3px}.small{font-size:11.5px}.figure{font-size:28px;font-weight:700}
.middle{text-anchor:middle}.end{text-anchor:end}
.muted{fill:#5a6068}.paper{fill:#ffffff}.band{fill:#e9ecf0}
.life{stroke:#8a9099;stroke-width:1.5}.rule{stroke:#d3d7dc}
.asleep{stroke:#8a9099;stroke-width:1.5;stroke-dasharray:2 5}
.awake,.works{fill:#8a9099}
.pill{fill:#ffffff;stroke:#8a9099}
.plain{stroke:#4a5058;fill:#4a5058;stroke-width:1.5}
.copies{stroke:#0072b2;fill:#0072b2;stroke-width:5}
.ring{stroke:#d55e00;fill:#d55e00;stroke-width:5;stroke-dasharray:9 4}
@media (prefers-color-scheme:dark){
text{fill:#e9e9e6}.label{stroke:#16181c}.muted{fill:#a9afb8}.paper{fill:#16181c}.band{fill:#272c33}
.life,.asleep{stroke:#7b828c}.rule{stroke:#3a3f46}.awake,.works{fill:#8b929c}
.pill{fill:#16181c;stroke:#7b828c}
.plain{stroke:#c3c8cf;fill:#c3c8cf}.copies{stroke:#5ab0e6;fill:#5ab0e6}.ring{stroke:#f28a3c;fill:#f28a3c}
}
.tip{stroke:none}";

/// What is drawn how, and what that means.
const LEGEND: [(&str, &str); 5] = [
    ("plain", "a call, a return, bytes on their way"),
    ("copies", "a call that copies bytes"),
    ("ring", "through the shared ring: no call, the kernel copies"),
    ("awake", "awake"),
    ("asleep", "asleep"),
];

/// All lives side by side.
pub(super) fn picture(lives: &[Life]) -> String {
    let panels = i32::try_from(lives.len()).unwrap_or(1);
    let rows = lives.iter().map(|life| life.steps.len()).max().unwrap_or(0);
    let rows = i32::try_from(rows).unwrap_or(0);
    let width = MARGIN + panels * (PANEL + MARGIN);
    let below = TOP + rows * ROW;
    let (legend, rows_of_legend) = legend(width);
    let height = below + BOTTOM + rows_of_legend * 26;
    let names: Vec<&str> = lives.iter().map(|life| life.engine.name()).collect();
    let title = format!("One request in {}", names.join(" and in "));
    let lead = format!(
        "{MESSAGE} bytes to the server and {MESSAGE} bytes back, over a connection that was open already. The server takes \
         {} ms for its answer. Recorded by a proxy with one worker; the fastest of {TRIES}. Times in µs; rows are steps and \
         not to scale.",
        THINKS.as_millis()
    );
    let drawing = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}"))
            width=(width) height=(height) role="img" {
            title { (title) }
            desc { (lives.iter().map(summary).collect::<Vec<_>>().join(" ")) }
            style { (PreEscaped(STYLE)) }
            rect.paper width=(width) height=(height) {}
            text.title x=(MARGIN) y="62" { (title) }
            (paragraph(MARGIN, 90, "lead muted", &lead, width - 2 * MARGIN))
            @for (index, life) in (0..).zip(lives) {
                g transform=(format!("translate({} 0)", MARGIN + index * (PANEL + MARGIN))) {
                    (panel(life, below))
                }
            }
            g transform=(format!("translate(0 {})", below + BOTTOM - 20)) { (legend) }
        }
    };
    drawing.into_string() + "\n"
}

/// For those who cannot see it.
fn summary(life: &Life) -> String {
    let rows = Life::COMPARED.iter().map(|(name, value)| format!("{name}: {}", value(life)));
    format!("{}: {}.", life.engine.name(), rows.collect::<Vec<_>>().join(", "))
}

fn panel(life: &Life, below: i32) -> Markup {
    html! {
        text class="name mono" y="164" { (life.engine.name()) }
        (paragraph(0, 186, "lead", explained(life.model), PANEL))
        @for (at, name) in PEERS.into_iter().zip(["client", "server"]) {
            text class="head middle" x=(at) y=(TOP - 18) { (name) }
            line.life x1=(at) x2=(at) y1=(TOP) y2=(below) {}
        }
        @for (at, name) in BANDS.into_iter().zip(["client's socket", "server's socket"]) {
            rect.band x=(at - HALF) y=(TOP - 34) width=(2 * HALF) height=(below - TOP + 34) rx="6" {}
            text class="head middle" x=(at) y=(TOP - 18) { "kernel" }
            text class="small middle muted" x=(at) y=(TOP - 5) { (name) }
        }
        @for thread in 0..life.threads {
            text class="head middle" x=(lane(thread, life.threads)) y=(TOP - 18) { "tidegate" }
            @if life.threads > 1 {
                text class="small middle muted" x=(lane(thread, life.threads)) y=(TOP - 5) {
                    "thread " (thread + 1)
                }
            }
            (states(life, thread, below))
        }
        (server_at_work(life))
        @for (index, step) in (0..).zip(&life.steps) { (drawn(step, TOP + index * ROW + ROW / 2, life.threads)) }
        (totals(life, below))
    }
}

/// Where a thread is: close together, which leaves room for what stands at their calls.
fn lane(thread: usize, threads: usize) -> i32 {
    let [thread, threads] = [thread, threads].map(|it| i32::try_from(it).unwrap_or(0));
    i32::midpoint(BANDS[0], BANDS[1]) + (2 * thread + 1 - threads) * THREADS / 2
}

fn of(side: Side, both: [i32; 2]) -> i32 {
    both[usize::from(side == Side::Server)]
}

/// The line of a thread: a bar while it is awake.
fn states(life: &Life, thread: usize, below: i32) -> Markup {
    let at = lane(thread, life.threads);
    let mut changes = vec![(TOP, true)];
    for (index, step) in (0..).zip(&life.steps) {
        if let Deed::Thread { thread: its, act, .. } = &step.deed
            && *its == thread
        {
            changes.push((TOP + index * ROW + ROW / 2, matches!(act, Act::Sleeps(_))));
        }
    }
    let ends = changes.iter().skip(1).map(|(y, _)| *y).chain([below]);
    html! {
        @for ((from, asleep), to) in changes.iter().zip(ends) {
            @if *asleep {
                line.asleep x1=(at) x2=(at) y1=(from) y2=(to) {}
            } @else {
                rect.awake x=(at - AWAKE) y=(from) width=(2 * AWAKE) height=(to - from) {}
            }
        }
    }
}

fn server_at_work(life: &Life) -> Markup {
    let place = |deed: &Deed| life.steps.iter().position(|step| step.deed == *deed);
    let ends = place(&Deed::PeerGets(Side::Server)).zip(place(&Deed::PeerSends(Side::Server)));
    let y = |row: usize| TOP + i32::try_from(row).unwrap_or(0) * ROW + ROW / 2;
    html! {
        @if let Some((from, to)) = ends {
            rect.works x=(PEERS[1] - AWAKE) y=(y(from)) width=(2 * AWAKE) height=(y(to) - y(from)) {}
            text class="small muted" x=(PEERS[1] + AWAKE + 4) y=(i32::midpoint(y(from), y(to)) + 4) {
                "works"
            }
        }
    }
}

fn drawn(step: &Step, y: i32, threads: usize) -> Markup {
    let label = step.deed.label();
    let bytes = format!("{MESSAGE} B");
    let took = step.took.map(|took| format!("{} µs", micros(took.cast_signed()))).unwrap_or_default();
    let picture = match &step.deed {
        Deed::PeerSends(side) => {
            arrow([of(*side, PEERS), inner(*side, Side::Client)], y, "plain", &bytes, "")
        }
        Deed::PeerGets(side) => arrow([inner(*side, Side::Client), of(*side, PEERS)], y, "plain", &bytes, ""),
        Deed::Thread { thread, act, .. } => {
            let at = lane(*thread, threads);
            let to = |side: Side| [edge(at, side), inner(side, Side::Server)];
            let from = |side: Side| [inner(side, Side::Server), edge(at, side)];
            match act {
                Act::Sleeps(_) | Act::Calls { socket: None, .. } => pill(at, y, "pill", &label),
                Act::Submits(None) | Act::Completes { socket: None, .. } => pill(at, y, "pill", &label),
                Act::Wakes(side) if took.is_empty() => arrow(from(*side), y, "plain", &label, ""),
                Act::Wakes(side) => arrow(from(*side), y, "plain", &label, &format!("slept {took}")),
                Act::Calls { socket: Some(side), .. } => arrow(to(*side), y, "plain", &label, &took),
                Act::Receives(side, _) => arrow(from(*side), y, "copies", &label, &took),
                Act::Sends(side, _) => arrow(to(*side), y, "copies", &label, &took),
                Act::Submits(Some(side)) => arrow(to(*side), y, "ring", &label, ""),
                Act::Completes { socket: Some(side), .. } => arrow(from(*side), y, "ring", &label, ""),
            }
        }
    };
    html! {
        text class="mono small muted end" x=(TIMES) y=(y + 4) {
            @if step.at < 0 { "before" } @else { (micros(step.at)) }
        }
        (picture)
    }
}

/// The border of a kernel's band on the side of the peer, or on that of the program.
fn inner(band: Side, towards: Side) -> i32 {
    let outside = towards == Side::Client;
    of(band, BANDS) + if (band == Side::Client) == outside { -HALF } else { HALF }
}

/// The border of a thread's bar towards a side.
fn edge(at: i32, side: Side) -> i32 {
    if side == Side::Client { at - AWAKE } else { at + AWAKE }
}

/// With a label above and a remark below.
fn arrow([from, to]: [i32; 2], y: i32, kind: &str, label: &str, remark: &str) -> Markup {
    let (back, half) = if kind == "plain" { (8, 4) } else { (12, 7) };
    let base = if from < to { to - back } else { to + back };
    let middle = i32::midpoint(from, base);
    html! {
        line class=(kind) x1=(from) x2=(base) y1=(y) y2=(y) {}
        polygon class={ (kind) " tip" } points=(format!("{to},{y} {base},{} {base},{}", y - half, y + half)) {}
        text class="mono label middle" x=(middle) y=(y - 6) { (label) }
        @if !remark.is_empty() { text class="small muted middle" x=(middle) y=(y + 14) { (remark) } }
    }
}

fn pill(at: i32, y: i32, kind: &str, label: &str) -> Markup {
    let width = i32::try_from(label.chars().count()).unwrap_or(0) * LETTERS[0] + 24;
    html! {
        rect class=(kind) x=(at - width / 2) y=(y - 12) width=(width) height="24" rx="12" {}
        text class="mono label middle" x=(at) y=(y + 4) { (label) }
    }
}

fn totals(life: &Life, below: i32) -> Markup {
    let card = PANEL / i32::try_from(Life::COMPARED.len()).unwrap_or(1);
    let calls: Vec<String> =
        life.totals.calls.iter().map(|(name, count)| format!("{name} {count}")).collect();
    html! {
        line.rule x2=(PANEL) y1=(below + 22) y2=(below + 22) {}
        @for (index, (name, value)) in (0..).zip(Life::COMPARED) {
            text.figure x=(index * card) y=(below + 62) { (value(life)) }
            (paragraph(index * card, below + 82, "small muted", name, card - 8))
        }
        text class="mono label" y=(below + 150) { (calls.join(" · ")) }
        (paragraph(0, below + 172, "small muted", &life.checked, PANEL))
    }
}

/// Entries in rows as wide as the picture, and how many rows.
fn legend(width: i32) -> (Markup, i32) {
    let (mut x, mut row) = (MARGIN, 0);
    let mut places = Vec::new();
    for (kind, meaning) in LEGEND {
        let wide = 56 + i32::try_from(meaning.len()).unwrap_or(0) * LETTERS[1];
        if x > MARGIN && x + wide > width {
            (x, row) = (MARGIN, row + 1);
        }
        places.push((x, row * 26, kind, meaning));
        x += wide + 12;
    }
    let drawn = html! {
        @for (x, y, kind, meaning) in places {
            @if kind == "awake" {
                rect.awake x=(x + 16) y=(y - 9) width=(2 * AWAKE) height="18" {}
            } @else if kind == "asleep" {
                line.asleep x1=(x + 21) x2=(x + 21) y1=(y - 10) y2=(y + 10) {}
            } @else {
                (arrow([x, x + 42], y, kind, "", ""))
            }
            text.lead x=(x + 52) y=(y + 5) { (meaning) }
        }
    };
    (drawn, row + 1)
}

/// Words in lines, in a space of so many units.
fn paragraph(x: i32, y: i32, class: &str, words: &str, width: i32) -> Markup {
    let (letter, line) = if class.contains("small") { (LETTERS[2], 15) } else { (LETTERS[1], 21) };
    let most = usize::try_from(width / letter).unwrap_or(0);
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let last = lines.last_mut().filter(|last| last.chars().count() + 1 + word.chars().count() <= most);
        match last {
            Some(last) if !last.is_empty() => *last = format!("{last} {word}"),
            Some(last) => word.clone_into(last),
            None => lines.push(word.to_owned()),
        }
    }
    html! {
        @for (index, words) in (0..).zip(lines) { text class=(class) x=(x) y=(y + index * line) { (words) } }
    }
}

fn micros(nanos: i64) -> String {
    format!("{:.1}", nanos as f64 / 1e3)
}
