//! How it looks. 80 columns and 24 lines are enough for everything; more show more.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Padding, Paragraph, Row, Table};

use super::app::{App, CONNECTIONS_MAX, Place};
use super::history::{Flow, Served, Worked};
use crate::control::model::{Connection, Health, Listener, Phase, ServerState, SessionState, Status};
use crate::control::words::{NONE, below, bytes, flow, percent, rate, span, whole};

/// The least that something can be shown in.
const LEAST_WIDTH: u16 = 72;
const LEAST_HEIGHT: u16 = 13;
/// From here on there is room for all columns.
const WIDE: u16 = 110;

const HELP: &str = "\
q, ctrl-c      quit
tab, arrows    the next table; up and down in it
enter          the connections of the listener or server
c              live connections, and back
/              filter: a part of a name; for connections
               listener=web pool=web server=web/alpha
               source=10.0.0.0/8 older_than=1h idle_for=60s
s              sort by something else
p              pause, and go on
?              this help

new, up, down  a second, between the last two looks
failed         attempts to connect in the last minute
99%            of connects, or answers, took no longer
busy           its time on a CPU
*              the file says something else";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    if area.width < LEAST_WIDTH || area.height < LEAST_HEIGHT {
        let text = format!("{} by {} is too small: 80 by 24 is enough", area.width, area.height);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(header(app, area.width)), head);
    if app.place == Place::Connections {
        connections(frame, app, body);
    } else {
        overview(frame, app, body);
    }
    frame.render_widget(footer(app), foot);
    if app.help {
        help(frame, body);
    }
}

/// Three lines: what it is, what goes through it, what somebody should know.
fn header(app: &App, width: u16) -> Vec<Line<'static>> {
    let Some(status) = app.history.last() else {
        return vec![Line::from("tidegate".bold()), Line::default(), notice(app)];
    };
    let total = app.history.total();
    let phase = match status.phase {
        Phase::Serving if status.ready => "serving".green(),
        Phase::Serving => "serving, not ready".yellow(),
        Phase::Draining => "draining".yellow(),
        Phase::Stopping => "stopping".red(),
    };
    let up_for = format!("  up {}", span(status.uptime_s * 1000));
    let first = vec!["tidegate ".bold(), format!("{}  ", status.version).into(), phase.bold(), up_for.into()];
    let process = &status.process;
    let used = |what: &str, used: u64, most: u64| {
        format!("{what} {} of {} ({})", whole(used), whole(most), percent(used as f64, most as f64))
    };
    let flows = format!("new {}  up {}  down {}", rate(total.new), flow(total.up), flow(total.down));
    vec![
        apart(first, used("connections", process.connections.into(), process.maxconn.into()), width),
        apart(vec![flows.into()], used("descriptors", process.descriptors, process.descriptor_limit), width),
        notice(app),
    ]
}

/// Something at each end of a line.
fn apart(left: Vec<Span<'static>>, right: String, width: u16) -> Line<'static> {
    let mut line = Line::from(left);
    let gap = usize::from(width).saturating_sub(line.width() + right.chars().count());
    line.push_span(" ".repeat(gap.max(1)));
    line.push_span(right);
    line
}

fn notice(app: &App) -> Line<'static> {
    if let Some((time, why)) = app.silence() {
        let text = format!(" no answer for {}: {why} ", span(time.as_millis() as u64));
        return text.bold().reversed().into();
    }
    let Some(status) = app.history.last() else { return "asking the process".into() };
    let mut told = Vec::new();
    if app.paused {
        told.push("paused".to_owned());
    }
    told.extend(warnings(status));
    told.extend(status.closings.iter().map(|closing| {
        format!(
            "closing {} of {} connections: {}",
            whole(closing.told),
            whole(closing.connections),
            closing.why
        )
    }));
    told.join("; ").yellow().into()
}

fn warnings(status: &Status) -> Vec<String> {
    let mut told = Vec::new();
    if !status.config.last_reload_successful {
        let why = status.config.last_reload_error.as_deref().unwrap_or("the log says why");
        told.push(format!("the last reload failed: {why}"));
    }
    if let Some(seconds) = status.config.confirm_within_s {
        told.push(format!("the configuration is taken back in {} unless confirmed", span(seconds * 1000)));
    }
    let takes = |server: &crate::control::model::Server| {
        let is_ready = server.state == ServerState::Ready && server.health == Health::Up;
        is_ready && server.weight > 0 && !server.removed
    };
    let out = status.pools.iter().filter(|pool| !pool.servers.iter().any(takes));
    told.extend(out.map(|pool| format!("no server of {} takes connections", pool.name)));
    told
}

fn footer(app: &App) -> Line<'static> {
    if let Some((text, wrong)) = &app.typing {
        let said = wrong.clone().unwrap_or_else(|| match app.place {
            Place::Connections => {
                "conditions such as server=web/alpha idle_for=60s; enter applies them, esc leaves it"
                    .to_owned()
            }
            _ => "a part of a name; enter applies it, esc leaves it".to_owned(),
        });
        return vec!["filter: ".bold(), text.clone().into(), "_  ".into(), said.dim()].into();
    }
    let keys = match app.place {
        Place::Connections => "q quit  up/down scroll  / filter  s sort  c back  p pause  ? help",
        _ => "q quit  tab next  enter connections  / filter  s sort  c all  p pause  ? help",
    };
    Line::from(keys).dim()
}

fn overview(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let counts = [app.listeners().len(), app.servers().len(), app.workers().len()];
    // A title and the heads of the columns, and at least one line that says that there is nothing.
    let wanted = counts.map(|rows| u16::try_from(rows).unwrap_or(u16::MAX).max(1).saturating_add(2));
    let heights = share(area.height, wanted, app.place as usize);
    let [listeners_at, servers_at, workers_at] =
        Layout::vertical(heights.map(Constraint::Length)).areas(area);
    let wide = area.width >= WIDE;

    let rows = app.listeners().iter().map(|it| listener_row(it, wide)).collect();
    show(frame, app, Place::Listeners, listeners_at, rows, &listener_columns(wide));
    let rows = app.servers().iter().map(|it| server_row(it, wide)).collect();
    show(frame, app, Place::Servers, servers_at, rows, &server_columns(wide));
    let rows = app.workers().iter().map(worker_row).collect();
    show(frame, app, Place::Workers, workers_at, rows, &WORKER_COLUMNS);
}

/// Lines for three tables: each gets three at least, then what it wants as far as that goes, the one with the keys first.
fn share(available: u16, wanted: [u16; 3], first: usize) -> [u16; 3] {
    let mut heights = wanted.map(|wanted| wanted.min(3));
    let mut left = available.saturating_sub(heights.iter().sum());
    while left > 0 {
        let before = left;
        for place in [first, (first + 1) % 3, (first + 2) % 3] {
            if left > 0 && heights[place] < wanted[place] {
                heights[place] += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    heights
}

/// A column: its head, its width, whether it holds numbers.
type Column = (&'static str, Constraint, Alignment);

const fn text(head: &'static str, width: Constraint) -> Column {
    (head, width, Alignment::Left)
}

const fn number(head: &'static str, width: u16) -> Column {
    (head, Constraint::Length(width), Alignment::Right)
}

/// A table with its title. Rows are told as texts; the style is that of the whole row.
fn show(
    frame: &mut Frame<'_>,
    app: &mut App,
    place: Place,
    area: Rect,
    rows: Vec<(Vec<Span<'static>>, Style)>,
    columns: &[Column],
) {
    let has_keys = app.place == place;
    let block = Block::new().borders(Borders::TOP).title(title(app, place, rows.len()));
    if rows.is_empty() {
        let none = if app.history.last().is_none() { "" } else { nothing(app, place) };
        frame.render_widget(Paragraph::new(none.to_owned()).block(block), area);
        return;
    }
    let cell = |text: Span<'static>, alignment| Cell::new(Line::from(text).alignment(alignment));
    let heads = columns.iter().map(|(head, _, alignment)| cell((*head).into(), *alignment));
    let lines = rows.into_iter().map(|(cells, style)| {
        let cells = cells.into_iter().zip(columns).map(|(text, (_, _, alignment))| cell(text, *alignment));
        Row::new(cells).style(style)
    });
    let selected = if has_keys { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    let table = Table::new(lines, columns.iter().map(|(_, width, _)| *width))
        .header(Row::new(heads).style(Style::new().add_modifier(Modifier::DIM)))
        .row_highlight_style(selected)
        .column_spacing(1)
        .block(block);
    frame.render_stateful_widget(table, area, &mut app.rows[place as usize]);
}

fn title(app: &App, place: Place, rows: usize) -> Line<'static> {
    let name = match place {
        Place::Listeners => "Listeners",
        Place::Servers => "Servers",
        Place::Workers => "Workers",
        Place::Connections => "Connections",
    };
    let mut parts = vec![format!("{rows}"), app.sort(place).name().to_owned()];
    if place == Place::Connections {
        if rows > CONNECTIONS_MAX {
            parts[0] = format!("the first {}, there are more", whole(CONNECTIONS_MAX as u64));
        }
        parts.extend(Some(app.which.clone()).filter(|which| !which.is_empty()));
    } else if place != Place::Workers && !app.names.is_empty() {
        parts.push(format!("/{}", app.names));
    }
    let name =
        if app.place == place { format!(" {name} ").bold().reversed() } else { format!(" {name} ").bold() };
    vec![name, format!(" {} ", parts.join(", ")).into()].into()
}

fn nothing(app: &App, place: Place) -> &str {
    match place {
        Place::Connections => app.refused.as_deref().unwrap_or("No connection fits."),
        Place::Workers => "None.",
        _ if app.names.is_empty() => "None.",
        _ => "No name has this in it.",
    }
}

fn style(removed: bool) -> Style {
    if removed { Style::new().add_modifier(Modifier::DIM) } else { Style::new() }
}

fn listener_columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![
        text("name", Constraint::Fill(1)),
        text("pool", Constraint::Length(12)),
        text("engine", Constraint::Length(11)),
    ];
    columns.extend([number("conns", 7), number("new", 8), number("up", 11), number("down", 11)]);
    if wide {
        columns.insert(1, text("at", Constraint::Fill(1)));
        columns.push(number("accepted", 15));
    }
    columns
}

fn listener_row((listener, flow): &(&Listener, Flow), wide: bool) -> (Vec<Span<'static>>, Style) {
    let removed = if listener.removed { " (removed)" } else { "" };
    let mut cells = vec![
        format!("{}{removed}", listener.name).bold(),
        listener.pool.clone().into(),
        listener.engine.clone().into(),
    ];
    cells.push(whole(listener.connections.into()).into());
    cells.extend(flow_cells(flow));
    if wide {
        cells.insert(1, listener.addresses.join(" ").into());
        cells.push(whole(listener.accepted).into());
    }
    (cells, style(listener.removed))
}

fn flow_cells(it: &Flow) -> [Span<'static>; 3] {
    [rate(it.new).into(), flow(it.up).into(), flow(it.down).into()]
}

fn server_columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![text("pool/server", Constraint::Fill(1)), text("state", Constraint::Length(7))];
    columns.extend([
        number("conns", 7),
        number("new", 8),
        number("up", 11),
        number("down", 11),
        number("failed", 6),
    ]);
    if wide {
        columns.insert(1, text("at", Constraint::Fill(1)));
        columns.insert(3, number("weight", 6));
        columns.push(number("99%", 8));
    }
    columns
}

fn server_row(it: &Served<'_>, wide: bool) -> (Vec<Span<'static>>, Style) {
    let server = it.server;
    // A star: the file says something else.
    let star = |differs: bool| if differs { "*" } else { "" };
    let name = match server.state {
        ServerState::Ready if server.backup => "backup",
        state => state.name(),
    };
    let name = name.to_owned() + star(server.file_state.is_some());
    let state = match server.state {
        _ if server.removed => "removed".into(),
        ServerState::Ready if server.health != Health::Up => server.health.name().red(),
        ServerState::Ready => name.green(),
        ServerState::Drain => name.yellow(),
        ServerState::Maint => name.dim(),
    };
    let failed = if it.failed > 0 { whole(it.failed).fg(Color::Red).bold() } else { "0".into() };
    let mut cells = vec![format!("{}/{}", it.pool, server.name).bold(), state];
    cells.push(whole(server.connections.into()).into());
    cells.extend(flow_cells(&it.flow));
    cells.push(failed);
    if wide {
        cells.insert(1, server.address.clone().into());
        cells.insert(
            3,
            format!("{}{}", whole(server.weight.into()), star(server.file_weight.is_some())).into(),
        );
        cells.push(below(it.slowest).into());
    }
    (cells, style(server.removed))
}

const WORKER_COLUMNS: [Column; 7] = [
    number("no", 3),
    text("engine", Constraint::Length(12)),
    number("conns", 7),
    number("turns", 10),
    number("99%", 8),
    number("busy", 5),
    text("", Constraint::Fill(1)),
];

/// Cells of a worker's bar.
const BAR: usize = 20;

fn worker_row(it: &Worked<'_>) -> (Vec<Span<'static>>, Style) {
    let busy = it.busy.unwrap_or_default().clamp(0.0, 1.0);
    let cells = vec![
        it.worker.number.to_string().into(),
        it.worker.engine.clone().into(),
        whole(it.worker.connections.into()).into(),
        rate(it.turns).into(),
        below(it.slowest).into(),
        it.busy.map_or_else(|| NONE.to_owned(), |busy| percent(busy, 1.0)).into(),
        "█".repeat((busy * BAR as f64).round() as usize).fg(Color::Blue),
    ];
    (cells, Style::new())
}

const CONNECTION_COLUMNS: [Column; 7] = [
    text("client", Constraint::Fill(3)),
    text("pool/server", Constraint::Fill(2)),
    text("state", Constraint::Length(11)),
    number("age", 7),
    number("idle", 7),
    number("up", 9),
    number("down", 9),
];

fn connections(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let rows = app.live().into_iter().map(connection_row).collect();
    show(frame, app, Place::Connections, area, rows, &CONNECTION_COLUMNS);
}

fn connection_row(it: &Connection) -> (Vec<Span<'static>>, Style) {
    let name = it.state.name();
    let state = match it.state {
        SessionState::Inspecting | SessionState::Queued | SessionState::Connecting => name.yellow(),
        SessionState::Closing => name.dim(),
        SessionState::Relaying | SessionState::HalfClosed => name.into(),
    };
    let cells = vec![
        it.client.map_or_else(|| "unix".to_owned(), |client| client.to_string()).into(),
        format!("{}/{}", it.pool, it.server.as_deref().unwrap_or(NONE)).into(),
        state,
        span(it.age_ms).into(),
        it.idle_ms.map_or_else(|| NONE.to_owned(), span).into(),
        bytes(it.bytes.up as f64).into(),
        bytes(it.bytes.down as f64).into(),
    ];
    (cells, Style::new())
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let lines = u16::try_from(HELP.lines().count()).unwrap_or_default() + 2;
    let [_, across, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(60), Constraint::Fill(1)]).areas(area);
    let [_, at, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(lines), Constraint::Fill(1)]).areas(across);
    frame.render_widget(Clear, at);
    frame.render_widget(
        Paragraph::new(HELP)
            .block(Block::bordered().title(" Help: any key ends it ").padding(Padding::horizontal(1))),
        at,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_who_needs_them_and_to_the_table_with_the_keys_first() {
        assert_eq!(share(20, [5, 8, 6], 1), [5, 8, 6]);
        assert_eq!(share(20, [5, 80, 6], 1), [5, 9, 6]);
        assert_eq!(share(10, [80, 80, 80], 0), [4, 3, 3]);
        assert_eq!(share(10, [80, 80, 80], 2), [3, 3, 4]);
        assert_eq!(share(4, [80, 80, 80], 2), [3, 3, 3]);
    }
}
