//! `tidegate top`: the state of a running process in a terminal, once a second.
//!
//! It asks through two functions, so it does not know where the process is. One thread asks, which may take as long as
//! it takes; the other draws and listens to keys.

mod app;
mod draw;
mod history;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, stdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use app::{App, CONNECTIONS_MAX, Wanted};

use crate::control::model::{Connection, Filter, Status};
use crate::sys::Clock;

/// How often the process is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long a key waits at most until what came from the process is seen.
const LISTEN: Duration = Duration::from_millis(100);

/// What the asking thread tells.
enum News {
    Status(anyhow::Result<Status>),
    /// With the filter that they were asked for with.
    Connections(Filter, anyhow::Result<Vec<Connection>>),
}

/// Shows the process until somebody quits. `connections` is asked for those that fit, so many at most.
///
/// # Errors
/// The standard output is no terminal, or it broke.
pub fn run(
    status: impl FnMut() -> anyhow::Result<Status> + Send + 'static,
    connections: impl FnMut(&Filter, usize) -> anyhow::Result<Vec<Connection>> + Send + 'static,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        "`tidegate top` draws on a terminal, and this is none; `tidegate ctl status` tells the same once"
    );
    let (ask, asked) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    // It ends when nobody listens any more; while the process does not answer, nobody waits for that.
    thread::Builder::new()
        .name("ask".to_owned())
        .spawn(move || keep_asking(&asked, &tell, status, connections))
        .context("no thread can be started")?;
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let ended = show(&mut terminal, &ask, &told);
    ratatui::try_restore().context("the terminal is not as it was; `reset` mends it")?;
    ended
}

/// Asks for what is wanted, every second and when that changes, until the other side is gone.
fn keep_asking(
    asked: &Receiver<Wanted>,
    tell: &Sender<News>,
    mut status: impl FnMut() -> anyhow::Result<Status>,
    mut connections: impl FnMut(&Filter, usize) -> anyhow::Result<Vec<Connection>>,
) {
    let mut wanted = Wanted::default();
    loop {
        if !wanted.paused {
            let mut told = tell.send(News::Status(status()));
            if let Some(filter) = &wanted.connections {
                // One more, which tells that there are more.
                let found = connections(filter, CONNECTIONS_MAX + 1);
                told = told.and(tell.send(News::Connections(filter.clone(), found)));
            }
            if told.is_err() {
                return;
            }
        }
        match asked.recv_timeout(EVERY) {
            Ok(next) => wanted = next,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn show(terminal: &mut DefaultTerminal, ask: &Sender<Wanted>, told: &Receiver<News>) -> anyhow::Result<()> {
    let clock = Clock::start();
    let mut app = App::new();
    let mut wanted = app.wanted();
    while !app.done {
        app.now = clock.now();
        for news in told.try_iter() {
            take(&mut app, news);
        }
        terminal.draw(|frame| draw::draw(frame, &mut app))?;
        if event::poll(LISTEN)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => app.press(key),
                // A new size is seen when it is drawn again.
                _ => {}
            }
        }
        if app.wanted() != wanted {
            wanted = app.wanted();
            // The thread is there as long as `told` is.
            let _ = ask.send(wanted.clone());
        }
    }
    Ok(())
}

/// What comes when it is not wanted any more is left out: it answers another question.
fn take(app: &mut App, news: News) {
    let words = |error: anyhow::Error| format!("{error:#}").replace('\n', " ");
    match news {
        News::Status(status) if !app.paused => app.take_status(app.now, status.map_err(words)),
        News::Connections(filter, found)
            if app.wanted().connections.as_ref() == Some(&filter) && !app.paused =>
        {
            app.take_connections(found.map_err(words));
        }
        _ => {}
    }
}
