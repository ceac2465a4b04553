//! Where servers come from that do not stand in the configuration file: names, and lists. What has changed is told to
//! workers by a new snapshot, as after a reload.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, timeout};

use super::inquiries::{Heard, Inquiries, Memory};
use super::lists::Watch;
use super::names::Lookup;
use super::{Live, State};
use crate::config::Config;
use crate::control::discovery;
use crate::control::discovery::ask::Asker;
use crate::sys::Clock;

/// How often it is looked whether new servers were checked that others wait for.
pub(super) const SETTLE_BEAT: Duration = Duration::from_millis(20);

/// How long news may gather until the next snapshot.
const REST: Duration = Duration::from_millis(50);

/// How long the start, and a reload, wait for names and lists that are new.
pub(super) const FIRST_MOST: Duration = Duration::from_secs(2);

/// What is known of names and lists.
pub(super) struct Sources {
    pub(super) names: Inquiries<Lookup>,
    pub(super) lists: Inquiries<Watch>,
    told: UnboundedSender<News>,
    /// Servers that are to go stay until others were checked, or until then; what is in effect without them.
    settling: Option<(Instant, Config)>,
}

/// What was known of them at a moment.
#[derive(Default)]
pub(super) struct Known {
    names: Memory<Lookup>,
    lists: Memory<Watch>,
}

/// What is to be looked at.
pub(super) enum News {
    Name(Heard<Lookup>),
    List(Heard<Watch>),
    /// Servers that are to go wait for others to be checked.
    Settles,
}

impl Sources {
    /// Nothing is known yet; `told` hears of everything.
    pub(super) fn new(told: UnboundedSender<News>) -> Self {
        let (names, lists) = (Inquiries::new(told.clone()), Inquiries::new(told.clone()));
        Self { names, lists, told, settling: None }
    }

    /// What is known now.
    pub(super) fn known(&self) -> Known {
        Known { names: self.names.memory(), lists: self.lists.memory() }
    }

    /// Asks for what this configuration has, and nothing else. What is new is waited for, but not for long; what was `known`
    /// once is not new.
    pub(super) async fn adopt(&mut self, file: &Config, known: &Known, clock: Clock) {
        self.settling = None;
        let asker = Arc::new(Asker::new(&file.dns));
        tokio::join!(
            self.names.adopt_names(file, &known.names, clock, &asker),
            self.lists.adopt_lists(file, &known.lists, clock, &asker)
        );
    }

    /// Servers that are to go stay until the first checks of others have ended; `wanted` is in effect then.
    pub(super) fn settle(&mut self, wanted: Config, patience: Option<Duration>) {
        self.settling = Some((Instant::now() + patience.unwrap_or_default(), wanted));
        // Whoever looks waits for news, of which there may be none for minutes.
        let _ = self.told.send(News::Settles);
    }

    /// Whether servers that are to go wait for others to be checked.
    pub(super) fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// The configuration with the servers that names stand for, and those of lists.
    pub(super) fn in_effect(&self, file: &Config) -> Config {
        discovery::in_effect(file, |name| self.names.servers(name), |pool, at| self.lists.servers(pool, at))
    }

    /// Takes note of an answer; whether there are other servers than before.
    fn note(&mut self, news: News, file: &Config) -> bool {
        match news {
            News::Name(heard) => {
                let was = self.names.note(heard);
                was.is_some_and(|(of, was)| was.servers() != self.names.servers(&of))
            }
            News::List(heard) => {
                let Some((key, was)) = self.lists.note(heard) else { return false };
                let is_news = was.list.servers() != self.lists.servers(&key.0, &key.1);
                if is_news {
                    self.lists.tell_left_out(&key, file);
                }
                is_news
            }
            News::Settles => false,
        }
    }
}

impl Live {
    /// Waits for the first answers, but not for long: what is not known does not keep others from being served.
    pub(super) async fn find_first(&self, state: &mut State) {
        state.sources.adopt(&state.file, &Known::default(), self.clock).await;
        state.config = state.sources.in_effect(&state.file);
    }

    /// Hears of names and lists, for ever.
    pub(super) async fn mind_sources(self: Arc<Self>, mut told: UnboundedReceiver<News>) {
        loop {
            let is_settling = self.state.lock().await.sources.is_settling();
            let first =
                if is_settling { timeout(SETTLE_BEAT, told.recv()).await } else { Ok(told.recv().await) };
            let mut state = self.state.lock().await;
            let State { sources, file, .. } = &mut *state;
            let mut is_news = false;
            for one in first.into_iter().flatten().chain(std::iter::from_fn(|| told.try_recv().ok())) {
                is_news |= sources.note(one, file);
            }
            if is_news || sources.is_settling() {
                self.go_by_sources(&mut state).await;
            }
            drop(state);
            sleep(REST).await;
        }
    }

    /// Has everybody go by the servers that there are now. Those that have gone are as those that a reload removes;
    /// where checks decide, only when those that have come were checked.
    async fn go_by_sources(&self, state: &mut State) {
        let State { sources, wards, file, config, .. } = &mut *state;
        if sources
            .settling
            .as_ref()
            .is_some_and(|(until, _)| *until > Instant::now() && wards.first_checks().is_some())
        {
            return;
        }
        let wanted = sources.in_effect(file);
        let settled = sources.settling.take().map(|(_, settled)| settled);
        let joined = discovery::with_leaving(settled.as_ref().unwrap_or(config), &wanted, false);
        let is_joined = joined.is_some();
        let new = joined.unwrap_or_else(|| wanted.clone());
        if new == *config {
            return;
        }
        discovery::changes(config, &new).iter().for_each(|line| log::info!("{line}"));
        *config = new;
        self.publish_next(state, self.published.current().connections.most()).await;
        if is_joined {
            state.sources.settle(wanted, state.wards.first_checks());
        }
        self.mind_listening(state).await;
    }
}
