//! Which engines are used, and which of the workers belong to each.

use std::fmt;
use std::ops::Range;

use crate::config::{Config, EngineKind};
use crate::engine::Unavailable;

/// An engine that is asked for and cannot run here.
#[derive(Debug, thiserror::Error)]
#[error(
    "{user}engine {engine} cannot run here: {cause}\n  = help: {remedy}",
    engine = engine.name(), cause = why.cause, remedy = why.remedy
)]
pub struct EngineError {
    /// Who asks for it.
    user: String,
    engine: EngineKind,
    why: Unavailable,
}

/// The workers of a process: for each engine in use a set of the same size. They are numbered set by set.
#[derive(Debug)]
pub(super) struct Sets {
    engines: Vec<EngineKind>,
    /// By listener: the set that serves it.
    of_listener: Vec<usize>,
    /// Workers in each set.
    each: u16,
    /// Engines that another one stands in for.
    replaced: Vec<(EngineKind, Unavailable)>,
}

impl Sets {
    /// Finds the engine of every listener, and tries each with `probe`. Where one cannot run, the default
    /// engine takes its place if the configuration lets it.
    pub(super) fn choose(
        config: &Config,
        each: u16,
        probe: impl Fn(EngineKind) -> Result<(), Unavailable>,
    ) -> Result<Self, EngineError> {
        Self { engines: Vec::new(), of_listener: Vec::new(), each, replaced: Vec::new() }.next(config, probe)
    }

    /// The sets for another configuration: those that there are stay, and others come behind them.
    pub(super) fn next(
        &self,
        config: &Config,
        probe: impl Fn(EngineKind) -> Result<(), Unavailable>,
    ) -> Result<Self, EngineError> {
        let fallback = EngineKind::Auto.resolved();
        let engines = self.engines.clone();
        let mut sets = Self { engines, of_listener: Vec::new(), each: self.each, replaced: Vec::new() };
        for listener in &config.listeners {
            let wanted = listener.engine.unwrap_or(config.process.engine).resolved();
            let error = |engine, why| {
                let user =
                    listener.engine.map_or_else(String::new, |_| format!("listener {}: ", listener.name));
                EngineError { user, engine, why }
            };
            let mut engine = wanted;
            if sets.replaced.iter().any(|(replaced, _)| *replaced == wanted) {
                engine = fallback;
            } else if !sets.engines.contains(&wanted)
                && let Err(why) = probe(wanted)
            {
                if wanted == fallback || !config.process.engine_fallback {
                    return Err(error(wanted, why));
                }
                if !sets.engines.contains(&fallback) {
                    probe(fallback).map_err(|why| error(fallback, why))?;
                }
                sets.replaced.push((wanted, why));
                engine = fallback;
            }
            let set = sets.engines.iter().position(|used| *used == engine).unwrap_or_else(|| {
                sets.engines.push(engine);
                sets.engines.len() - 1
            });
            sets.of_listener.push(set);
        }
        Ok(sets)
    }

    /// The engine of each set.
    pub(super) fn engines(&self) -> &[EngineKind] {
        &self.engines
    }

    /// How many sets there are.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.engines.len()).expect("there are fewer engines")
    }

    /// Workers in each set.
    pub(super) fn each(&self) -> u16 {
        self.each
    }

    /// Workers in all of them.
    pub(super) fn workers(&self) -> u16 {
        self.count() * self.each
    }

    /// The engine of a worker.
    pub(super) fn engine_of(&self, worker: u16) -> EngineKind {
        self.engines[usize::from(worker / self.each)]
    }

    /// The engine of a listener.
    pub(super) fn engine_for(&self, listener: usize) -> EngineKind {
        self.engines[self.of_listener[listener]]
    }

    /// The workers that serve a listener.
    pub(super) fn workers_of(&self, listener: usize) -> Range<usize> {
        let each = usize::from(self.each);
        let first = self.of_listener[listener] * each;
        first..first + each
    }

    /// There is a set for one more engine.
    pub(super) fn add(&mut self, engine: EngineKind) {
        self.engines.push(engine);
    }

    /// The set of an engine could not be started: it stays empty, and is no set of any engine.
    pub(super) fn forsake(&mut self, engine: EngineKind) {
        // No listener has this one: `auto` always stands for another.
        for set in self.engines.iter_mut().filter(|set| **set == engine) {
            *set = EngineKind::Auto;
        }
    }

    /// Says which engines cannot run here, unless `before` has said so.
    pub(super) fn report_new(&self, before: &Self) {
        if self.replaced != before.replaced {
            self.report();
        }
    }

    /// Says which engines cannot run here.
    pub(super) fn report(&self) {
        for (engine, Unavailable { cause, remedy }) in &self.replaced {
            let (engine, fallback) = (engine.name(), EngineKind::Auto.resolved().name());
            log::warn!(
                "engine {engine} cannot run here: {cause}; {fallback} stands in for it; help: {remedy}"
            );
        }
    }
}

/// As the log tells it: `2 mio, 2 io_uring`.
impl fmt::Display for Sets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, engine) in self.engines.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(out, "{comma}{} {}", self.each, engine.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::config;

    /// A listener for each of `engines`, and `process` below `[process]`.
    fn config(process: &str, engines: &[&str]) -> Config {
        let mut text = format!("[process]\n{process}\n");
        for (index, engine) in engines.iter().enumerate() {
            let port = 8000 + index;
            text += &format!(
                "[listener.l{index}]\nbind = [\"127.0.0.1:{port}\"]\npool = \"p\"\nengine = \"{engine}\"\n"
            );
        }
        text += "[pool.p]\nserver = [{ name = \"a\", addr = \"127.0.0.1:9000\" }]\n";
        config::parse(&text, "test").unwrap_or_else(|report| panic!("{report}"))
    }

    fn broken() -> Unavailable {
        Unavailable { cause: "it is broken".to_owned(), remedy: "mend it".to_owned() }
    }

    #[test]
    fn each_engine_in_use_has_its_set_and_is_tried_once() {
        let config = config("engine = \"io_uring\"", &["inherit", "poll", "auto", "readiness", "completion"]);
        let tried = RefCell::new(Vec::new());
        let sets = Sets::choose(&config, 2, |kind| {
            tried.borrow_mut().push(kind);
            Ok(())
        })
        .unwrap();
        assert_eq!(tried.into_inner(), [EngineKind::IoUring, EngineKind::Poll, EngineKind::Mio]);
        assert_eq!(sets.to_string(), "2 io_uring, 2 poll, 2 mio");
        assert_eq!((sets.count(), sets.each(), sets.workers()), (3, 2, 6));
        let ranges: Vec<_> = (0..5).map(|listener| sets.workers_of(listener)).collect();
        assert_eq!(ranges, [0..2, 2..4, 4..6, 4..6, 0..2]);
        let engines: Vec<_> = (0..6).map(|worker| sets.engine_of(worker).name()).collect();
        assert_eq!(engines, ["io_uring", "io_uring", "poll", "poll", "mio", "mio"]);
    }

    #[test]
    fn an_engine_that_nobody_uses_is_not_tried() {
        let config = config("engine = \"io_uring\"\nengine_fallback = false", &["mio"]);
        let sets =
            Sets::choose(&config, 3, |kind| if kind == EngineKind::Mio { Ok(()) } else { Err(broken()) });
        assert_eq!(sets.unwrap().to_string(), "3 mio");
    }

    #[test]
    fn the_default_engine_stands_in_for_one_that_cannot_run() {
        let config = config("engine = \"io_uring\"", &["inherit", "mio", "io_uring", "poll"]);
        let only = |allowed: &'static [EngineKind]| {
            move |kind| if allowed.contains(&kind) { Ok(()) } else { Err(broken()) }
        };
        let sets = Sets::choose(&config, 2, only(&[EngineKind::Mio, EngineKind::Poll])).unwrap();
        assert_eq!(sets.to_string(), "2 mio, 2 poll");
        assert_eq!(sets.replaced, [(EngineKind::IoUring, broken())]);
        let error = Sets::choose(&config, 2, only(&[EngineKind::Poll])).unwrap_err();
        assert_eq!(error.to_string(), "engine mio cannot run here: it is broken\n  = help: mend it");
    }

    #[test]
    fn without_the_fall_back_it_is_an_error() {
        let fails = |kind| if kind == EngineKind::Mio { Ok(()) } else { Err(broken()) };
        let error = |process: &str, engines: &[&str]| {
            let process = format!("engine_fallback = false\n{process}");
            Sets::choose(&config(&process, engines), 1, fails).unwrap_err().to_string()
        };
        assert_eq!(
            error("engine = \"threads\"", &["mio", "inherit"]),
            "engine threads cannot run here: it is broken\n  = help: mend it"
        );
        assert_eq!(
            error("", &["inherit", "sigio"]),
            "listener l1: engine sigio cannot run here: it is broken\n  = help: mend it"
        );
    }
}
