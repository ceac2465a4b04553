//! What is shown and what keys do to it. It draws nothing and asks nobody: it is told the news and the keys.

use std::cmp::Ordering;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::history::{Flow, History, Served, Worked};
use crate::control::model::{Connection, Filter, Listener, Status};
use crate::control::select::typed;
use crate::tick::Tick;

/// How many connections are asked for at most.
pub(super) const CONNECTIONS_MAX: usize = 1000;

/// How long an answer may take until that is told.
const PATIENCE: Duration = Duration::from_secs(3);

/// A table that can have the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Listeners,
    Servers,
    Workers,
    Connections,
}

/// What a table can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// As the configuration has it.
    Order,
    Connections,
    New,
    Bytes,
    Busy,
    Age,
    Idle,
    Up,
    Down,
}

impl Sort {
    fn of(place: Place) -> &'static [Self] {
        match place {
            Place::Listeners | Place::Servers => &[Self::Order, Self::Connections, Self::New, Self::Bytes],
            Place::Workers => &[Self::Order, Self::Connections, Self::Busy],
            Place::Connections => &[Self::Age, Self::Idle, Self::Up, Self::Down],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Order => "file order",
            Self::Connections => "most connections",
            Self::New => "most new",
            Self::Bytes => "most bytes",
            Self::Busy => "busiest",
            Self::Age => "oldest",
            Self::Idle => "longest idle",
            Self::Up => "most up",
            Self::Down => "most down",
        }
    }
}

/// What the process is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Nothing, until somebody goes on.
    pub(super) paused: bool,
    /// Connections that fit this.
    pub(super) connections: Option<Filter>,
}

/// All that is known and chosen.
#[derive(Debug)]
pub(super) struct App {
    pub(super) history: History,
    pub(super) connections: Vec<Connection>,
    /// Why connections cannot be shown.
    pub(super) refused: Option<String>,
    /// Since when the process does not answer, and why.
    lost: Option<(Tick, String)>,
    pub(super) now: Tick,
    /// When the process was last heard of.
    heard: Tick,
    pub(super) place: Place,
    /// Where `c` goes back to.
    before: Place,
    /// Which rows are in sight, for each place.
    pub(super) rows: [TableState; 4],
    sorts: [usize; 4],
    /// Part of a name, for the tables of the overview.
    pub(super) names: String,
    /// Which connections, as it was typed.
    pub(super) which: String,
    filter: Filter,
    /// What is being typed, and what is wrong with it.
    pub(super) typing: Option<(String, Option<String>)>,
    pub(super) paused: bool,
    pub(super) help: bool,
    pub(super) done: bool,
}

impl App {
    pub(super) fn new() -> Self {
        Self {
            history: History::default(),
            connections: Vec::new(),
            refused: None,
            lost: None,
            now: Tick::default(),
            heard: Tick::default(),
            place: Place::Servers,
            before: Place::Servers,
            rows: [(); 4].map(|()| TableState::new().with_selected(0)),
            sorts: [0; 4],
            names: String::new(),
            which: String::new(),
            filter: Filter::default(),
            typing: None,
            paused: false,
            help: false,
            done: false,
        }
    }

    pub(super) fn wanted(&self) -> Wanted {
        let connections = (self.place == Place::Connections).then(|| self.filter.clone());
        Wanted { paused: self.paused, connections }
    }

    /// The process has answered, or it has not.
    pub(super) fn take_status(&mut self, at: Tick, status: Result<Status, String>) {
        self.heard = at;
        match status {
            Ok(status) => {
                self.lost = None;
                self.history.push(at, status);
            }
            Err(error) => {
                let since = self.lost.as_ref().map_or(at, |(since, _)| *since);
                self.lost = Some((since, error));
            }
        }
    }

    /// Why nothing new is known, and since when.
    pub(super) fn silence(&self) -> Option<(Duration, &str)> {
        let waiting = self.now.since(self.heard);
        match &self.lost {
            Some((since, error)) => Some((self.now.since(*since), error)),
            None if waiting > PATIENCE && !self.paused => Some((waiting, "it is waited for")),
            None => None,
        }
    }

    /// The same for connections.
    pub(super) fn take_connections(&mut self, connections: Result<Vec<Connection>, String>) {
        (self.connections, self.refused) = match connections {
            Ok(connections) => (connections, None),
            Err(error) => (Vec::new(), Some(error)),
        };
    }

    pub(super) fn press(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.done |= key.code == KeyCode::Char('c');
        } else if self.typing.is_some() {
            self.type_on(key.code);
        } else if self.help {
            // Any key ends the help.
            self.help = false;
        } else {
            self.act(key.code);
        }
    }

    fn act(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') => self.done = true,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p') => {
                self.paused = !self.paused;
                self.heard = self.now;
            }
            KeyCode::Char('s') => {
                let sort = &mut self.sorts[self.place as usize];
                *sort = (*sort + 1) % Sort::of(self.place).len();
            }
            KeyCode::Char('/') => self.typing = Some((self.chosen().to_owned(), None)),
            KeyCode::Char('c') if self.place != Place::Connections => self.show_connections(),
            KeyCode::Char('c') | KeyCode::Esc if self.place == Place::Connections => self.place = self.before,
            KeyCode::Enter => self.enter(),
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(2),
            KeyCode::Down => self.selection().select_next(),
            KeyCode::Up => self.selection().select_previous(),
            KeyCode::PageDown => self.selection().scroll_down_by(10),
            KeyCode::PageUp => self.selection().scroll_up_by(10),
            KeyCode::Home => self.selection().select_first(),
            KeyCode::End => self.selection().select_last(),
            _ => {}
        }
    }

    fn selection(&mut self) -> &mut TableState {
        &mut self.rows[self.place as usize]
    }

    /// The next of the three tables of the overview, or the one before, which is two on.
    fn turn(&mut self, steps: usize) {
        let places = [Place::Listeners, Place::Servers, Place::Workers];
        if let Some(at) = places.iter().position(|place| *place == self.place) {
            self.place = places[(at + steps) % places.len()];
        }
    }

    fn show_connections(&mut self) {
        self.before = self.place;
        self.place = Place::Connections;
        self.connections.clear();
        self.selection().select_first();
    }

    /// Shows the connections of what is selected.
    fn enter(&mut self) {
        let selected = self.rows[self.place as usize].selected().unwrap_or_default();
        let which = match self.place {
            Place::Listeners => self.listeners().get(selected).map(|(it, _)| format!("listener={}", it.name)),
            Place::Servers => {
                self.servers().get(selected).map(|it| format!("server={}/{}", it.pool, it.server.name))
            }
            Place::Workers | Place::Connections => None,
        };
        if let Some(which) = which {
            // Names are known to be names: no blank, no `=`.
            self.filter = typed(&which).unwrap_or_default();
            self.which = which;
            self.show_connections();
        }
    }

    /// The filter of the place.
    fn chosen(&self) -> &str {
        if self.place == Place::Connections { &self.which } else { &self.names }
    }

    fn type_on(&mut self, key: KeyCode) {
        let Some((text, wrong)) = &mut self.typing else { return };
        match key {
            KeyCode::Char(letter) => text.push(letter),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Esc => self.typing = None,
            KeyCode::Enter if self.place == Place::Connections => match typed(text) {
                Ok(filter) => {
                    self.filter = filter;
                    self.which = text.trim().to_owned();
                    self.typing = None;
                    self.selection().select_first();
                }
                Err(refusal) => *wrong = Some(refusal.message),
            },
            KeyCode::Enter => {
                self.names = text.trim().to_owned();
                self.typing = None;
            }
            _ => {}
        }
    }

    pub(super) fn sort(&self, place: Place) -> Sort {
        Sort::of(place)[self.sorts[place as usize]]
    }

    fn has_name(&self, name: &str) -> bool {
        name.to_lowercase().contains(&self.names.to_lowercase())
    }

    /// Listeners as they are shown.
    pub(super) fn listeners(&self) -> Vec<(&Listener, Flow)> {
        let mut listeners = self.history.listeners();
        listeners.retain(|(listener, _)| self.has_name(&listener.name));
        let sort = self.sort(Place::Listeners);
        listeners.sort_by(|(a, a_flow), (b, b_flow)| {
            by_flow(sort, (a.connections, a_flow), (b.connections, b_flow))
        });
        listeners
    }

    /// Servers as they are shown.
    pub(super) fn servers(&self) -> Vec<Served<'_>> {
        let mut servers = self.history.servers();
        servers.retain(|it| self.has_name(&format!("{}/{}", it.pool, it.server.name)));
        let sort = self.sort(Place::Servers);
        servers
            .sort_by(|a, b| by_flow(sort, (a.server.connections, &a.flow), (b.server.connections, &b.flow)));
        servers
    }

    /// Workers as they are shown; a filter by name is not about them.
    pub(super) fn workers(&self) -> Vec<Worked<'_>> {
        let mut workers = self.history.workers();
        match self.sort(Place::Workers) {
            Sort::Connections => workers.sort_by_key(|it| std::cmp::Reverse(it.worker.connections)),
            Sort::Busy => workers.sort_by(|a, b| falling(a.busy, b.busy)),
            _ => {}
        }
        workers
    }

    /// Connections as they are shown.
    pub(super) fn live(&self) -> Vec<&Connection> {
        let mut connections: Vec<_> = self.connections.iter().collect();
        let key: fn(&Connection) -> u64 = match self.sort(Place::Connections) {
            Sort::Idle => |it| it.idle_ms.unwrap_or_default(),
            Sort::Up => |it| it.bytes.up,
            Sort::Down => |it| it.bytes.down,
            _ => |it| it.age_ms,
        };
        connections.sort_by_key(|it| std::cmp::Reverse(key(it)));
        connections
    }
}

fn by_flow(sort: Sort, (a, a_flow): (u32, &Flow), (b, b_flow): (u32, &Flow)) -> Ordering {
    let bytes = |flow: &Flow| Some(flow.up.unwrap_or_default() + flow.down.unwrap_or_default());
    match sort {
        Sort::Connections => b.cmp(&a),
        Sort::New => falling(a_flow.new, b_flow.new),
        Sort::Bytes => falling(bytes(a_flow), bytes(b_flow)),
        _ => Ordering::Equal,
    }
}

/// The larger first; what is not known comes last.
fn falling(a: Option<f64>, b: Option<f64>) -> Ordering {
    let known = |rate: Option<f64>| rate.unwrap_or(-1.0);
    known(b).total_cmp(&known(a))
}
