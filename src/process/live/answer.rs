//! What the control socket and HTTP ask, answered.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;

use super::list::{Found, known_server};
use super::{Live, State, silence};
use crate::config::{self, ServerState};
use crate::control::model::{
    Changed, Closing, Connection, Effect, Explanation, Filter, Question, Refusal, Status,
};
use crate::control::{Control, Cursor};
use crate::explain::explain;
use crate::snapshot::Override;
use crate::worker::Ask;

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
        let (_, file) = known_server(&state, pool, server)?;
        let over = state.overrides.entry((pool.to_owned(), server.to_owned())).or_default();
        let was = over.state.replace(to).unwrap_or(file);
        over.state = over.state.filter(|to| *to != file);
        if let Some(trial) = &mut state.trial {
            trial.set(pool, server, Override { state: Some(to), weight: None });
        }
        let what = format!("server {pool}/{server}");
        Ok(self.changed(&mut state, &what, was.name(), to.name(), file.name()).await)
    }

    async fn set_weight(&self, pool: &str, server: &str, to: u16) -> Result<Changed, Refusal> {
        let mut state = self.state.lock().await;
        let (file, _) = known_server(&state, pool, server)?;
        let over = state.overrides.entry((pool.to_owned(), server.to_owned())).or_default();
        let was = over.weight.replace(to).unwrap_or(file);
        over.weight = over.weight.filter(|to| *to != file);
        if let Some(trial) = &mut state.trial {
            trial.set(pool, server, Override { weight: Some(to), state: None });
        }
        let what = format!("server {pool}/{server}: weight");
        Ok(self.changed(&mut state, &what, was, to, file).await)
    }

    async fn kill(&self, filter: Filter, rate: Option<u32>) -> Result<Closing, Refusal> {
        self.kill_those(&filter, rate).await
    }

    async fn rebalance(&self, pool: &str, rate: Option<u32>) -> Result<Closing, Refusal> {
        self.rebalance_pool(pool, rate).await
    }

    async fn reload(&self, confirm: Option<Duration>) -> Result<Effect, Refusal> {
        self.reload_file("asked to", confirm).await
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
        changed("log level", &name(was), &name(level), &name(state.config.log.level))
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
        file: impl Display,
    ) -> Changed {
        let silent = self.publish_overrides(state).await;
        let mut changed = changed(what, &was.to_string(), &is.to_string(), &file.to_string());
        if !silent.is_empty() {
            changed.what += &format!("; but {}, and goes by it as soon as it does", silence(state, &silent));
        }
        log::info!("asked to: {}", changed.what);
        changed
    }

    /// Goes by what operators have set; workers that do not yet.
    async fn publish_overrides(&self, state: &mut State) -> Vec<u16> {
        state.overrides.retain(|_, over| *over != Override::default());
        let (next, events) = self.next_snapshot(state, self.published.current().connections.most());
        let silent = self.publish(state, Arc::new(next)).await;
        self.act_on(state, events);
        self.mind_listening(state).await;
        silent
    }
}

fn changed(what: &str, was: &str, is: &str, file: &str) -> Changed {
    Changed {
        what: if was == is { format!("{what} is {is} already") } else { format!("{what} {was} -> {is}") },
        next_reload: if is == file {
            "changes nothing: the file says the same".to_owned()
        } else {
            format!("keeps it, unless the file says another value than {file} then")
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_was_and_how_long_it_holds() {
        let weight = changed("server web/alpha: weight", "1", "5", "1");
        assert_eq!(weight.what, "server web/alpha: weight 1 -> 5");
        assert!(weight.next_reload.starts_with("keeps it, unless the file says another value than 1"));
        let back = changed("server web/alpha: weight", "5", "1", "1");
        assert!(back.next_reload.starts_with("changes nothing"));
        assert!(changed("log level", "info", "info", "info").what.ends_with("is info already"));
    }
}
