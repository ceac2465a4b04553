//! What the control socket and HTTP ask, answered.

use std::fmt::Display;
use std::time::Duration;

use log::LevelFilter;

use super::list::{Found, Given, known_server};
use super::{Live, State, silence};
use crate::config::{self, ServerState};
use crate::control::model::{
    Changed, Closing, Connection, Effect, Explanation, Filter, Question, Refusal, Status,
};
use crate::control::{Control, Cursor};
use crate::explain::explain;
use crate::snapshot::Override;
use crate::worker::Ask;

/// What is set of a server of a list: the file says nothing about it.
const STAYS: &str = "keeps it, and so does whatever the list says: what is set goes before it";

impl Control for Live {
    async fn status(&self) -> Status {
        self.state_now().await
    }

    fn has_metrics_per_server(&self) -> bool {
        self.published.current().metrics.per_server
    }

    async fn connections(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        with_paths: bool,
    ) -> Result<(Vec<Connection>, Option<Cursor>), Refusal> {
        let selection = self.select(filter).await?;
        // Only the kernel knows since when one is idle that nobody has looked at yet.
        let (found, next) = self.piece(&selection, after.unwrap_or_default(), Ask::Paths).await;
        let shown = |found: Found| match with_paths {
            true => found.connection,
            false => Connection { client_path: None, server_path: None, ..found.connection },
        };
        Ok((found.into_iter().map(shown).collect(), next))
    }

    async fn set_state(&self, pool: &str, server: &str, to: ServerState) -> Result<Changed, Refusal> {
        let mut state = self.state.lock().await;
        let Given { state: given, is_listed, .. } = known_server(&state, pool, server)?;
        let over = state.overrides.entry((pool.to_owned(), server.to_owned())).or_default();
        let was = over.state.replace(to).unwrap_or(given);
        // Who takes a server out of use means it, whatever its list says later, until it is made ready again.
        let holds = is_listed && to != ServerState::Ready;
        over.state = over.state.filter(|to| *to != given || holds);
        if let Some(trial) = &mut state.trial {
            trial.set(pool, server, Override { state: Some(to), weight: None });
        }
        let what = format!("server {pool}/{server}");
        let next_reload = if holds { STAYS.to_owned() } else { next_reload(&to.name(), &given.name()) };
        Ok(self.changed(&mut state, &what, was.name(), to.name(), next_reload).await)
    }

    async fn set_weight(&self, pool: &str, server: &str, to: u16) -> Result<Changed, Refusal> {
        let mut state = self.state.lock().await;
        let Given { weight: given, is_listed, .. } = known_server(&state, pool, server)?;
        let over = state.overrides.entry((pool.to_owned(), server.to_owned())).or_default();
        let was = over.weight.replace(to).unwrap_or(given);
        over.weight = over.weight.filter(|to| *to != given);
        if let Some(trial) = &mut state.trial {
            trial.set(pool, server, Override { weight: Some(to), state: None });
        }
        let what = format!("server {pool}/{server}: weight");
        let stays = is_listed && to != given;
        let next_reload = if stays { STAYS.to_owned() } else { next_reload(&to, &given) };
        Ok(self.changed(&mut state, &what, was, to, next_reload).await)
    }

    async fn kill(&self, filter: Filter, rate: Option<u32>) -> Result<Closing, Refusal> {
        self.kill_those(&filter, rate).await
    }

    async fn rebalance(&self, pool: &str, rate: Option<u32>) -> Result<Closing, Refusal> {
        self.rebalance_pool(pool, rate).await
    }

    async fn reload(&self, confirm: Option<Duration>) -> Result<Effect, Refusal> {
        self.reload_file("asked for a reload", confirm).await
    }

    async fn confirm(&self) -> Result<Changed, Refusal> {
        self.confirm_reload().await
    }

    async fn roll_back(&self) -> Result<Effect, Refusal> {
        self.roll_back_reload().await
    }

    async fn diff(&self, text: &str) -> Result<Effect, Refusal> {
        self.difference(text).await
    }

    async fn set_log_level(&self, level: LevelFilter) -> Changed {
        let state = self.state.lock().await;
        let was = log::max_level();
        self.log.set_level(level);
        let name = |level: LevelFilter| level.as_str().to_ascii_lowercase();
        let next_reload = next_reload(&name(level), &name(state.config.log.level));
        changed("log level", &name(was), &name(level), next_reload)
    }

    async fn explain(&self, question: &Question) -> Result<Explanation, Refusal> {
        let state = self.state.lock().await;
        let now = self.clock.now();
        let reason = |pool: &str, server: &str| {
            let shown = state.wards.shown(&(pool.to_owned(), server.to_owned()), now)?;
            Some(shown.check?.1.last.as_ref()?.reason.clone())
        };
        explain(&state.config, &self.published.current(), question, now, reason)
    }

    async fn dump(&self) -> String {
        config::dump(&self.state.lock().await.file)
    }
}

impl Live {
    /// Publishes what an operator has set, and says so.
    async fn changed(
        &self,
        state: &mut State,
        what: &str,
        was: impl Display,
        is: impl Display,
        next_reload: String,
    ) -> Changed {
        let silent = self.publish_overrides(state).await;
        let mut changed = changed(what, &was.to_string(), &is.to_string(), next_reload);
        if !silent.is_empty() {
            changed.what += &format!("; but {}, and goes by it as soon as it does", silence(state, &silent));
        }
        log::info!("asked to: {}", changed.what);
        changed
    }

    /// Goes by what operators have set; workers that do not yet.
    async fn publish_overrides(&self, state: &mut State) -> Vec<u16> {
        state.overrides.retain(|_, over| *over != Override::default());
        let silent = self.publish_next(state, self.published.current().connections.most()).await;
        self.mind_listening(state).await;
        silent
    }
}

fn changed(what: &str, was: &str, is: &str, next_reload: String) -> Changed {
    let what = if was == is { format!("{what} is {is} already") } else { format!("{what} {was} -> {is}") };
    Changed { what, next_reload }
}

/// What a reload makes of it, where the file says `file`.
fn next_reload<T: PartialEq + Display>(is: &T, file: &T) -> String {
    if is == file {
        "changes nothing: the file says the same".to_owned()
    } else {
        format!("keeps it, unless the file says another value than {file} then")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_was_and_how_long_it_holds() {
        let weight = changed("server web/alpha: weight", "1", "5", next_reload(&5, &1));
        assert_eq!(weight.what, "server web/alpha: weight 1 -> 5");
        assert!(weight.next_reload.starts_with("keeps it, unless the file says another value than 1"));
        assert!(next_reload(&1, &1).starts_with("changes nothing"));
        let level = changed("log level", "info", "info", next_reload(&"info", &"info"));
        assert!(level.what.ends_with("is info already"));
    }
}
