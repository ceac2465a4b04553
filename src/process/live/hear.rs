//! The control plane's own loop: signals, the end of workers, and what is looked at every second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::Live;
use super::stamps::{self, Stamp};
use crate::process::RunError;
use crate::process::threads::Ended;
use crate::sys::signals::Request;
use crate::worker::Command;

/// How often everything is looked at that nobody tells of.
const BEAT: Duration = Duration::from_secs(1);
/// How often a drain is reported, in beats.
const PROGRESS: u32 = 5;

/// Where the process is told of what happens.
pub(in crate::process) struct Ears {
    pub(in crate::process) requests: UnboundedReceiver<Request>,
    pub(in crate::process) ended: UnboundedReceiver<Ended>,
}

impl Live {
    /// Does what signals ask, until every worker has ended.
    pub(in crate::process) async fn hear(self: &Arc<Self>, mut ears: Ears) -> Result<(), RunError> {
        let mut left = 0;
        let mut gone = 0;
        let mut result = Ok(());
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beats = 0_u32;
        // It may have to wait for whoever changes something; signals and ends of workers need not.
        tokio::spawn(Arc::clone(self).look_around());
        while gone < self.crew.size() {
            tokio::select! {
                Some(request) = ears.requests.recv() => self.obey(request),
                Some(Ended { number, engine, result: end }) = ears.ended.recv() => {
                    gone += 1;
                    if let Err(cause) = end {
                        result = Err(RunError::Worker { number, engine: engine.name(), cause });
                    }
                }
                _ = beat.tick() => {
                    beats = beats.wrapping_add(1);
                    if beats.is_multiple_of(PROGRESS) && self.crew.is_draining() {
                        left = self.tell_progress(left);
                    }
                }
            }
        }
        result
    }

    /// Looks at what nobody tells of, again and again.
    async fn look_around(self: Arc<Self>) {
        let mut changed = None;
        loop {
            tokio::time::sleep(BEAT).await;
            self.ask_around().await;
            self.mind_certificates().await;
            self.judge().await;
            self.watch(&mut changed).await;
        }
    }

    fn tell_progress(&self, told: u32) -> u32 {
        let left = self.published.current().connections.count();
        if left > 0 && left != told {
            log::info!("draining: {left} connections left");
            self.notifier.status(format_args!("draining: {left} connections left"));
        }
        left
    }

    fn obey(self: &Arc<Self>, request: Request) {
        match request {
            Request::Reload => {
                let live = Arc::clone(self);
                tokio::spawn(async move { live.reload_file("SIGHUP", None).await });
            }
            Request::Reopen => {
                log::info!("SIGUSR1: the outputs of the logs are opened anew");
                self.log.reopen();
            }
            Request::Upgrade => {
                log::warn!("SIGUSR2: binary upgrade is not supported yet; nothing was changed");
            }
            Request::Stop if self.crew.is_draining() => {
                let count = self.published.current().connections.count();
                log::info!("second signal: {count} connections are reset now");
                self.crew.stop();
            }
            Request::Stop => {
                let count = self.published.current().connections.count();
                self.notifier.stopping(format_args!("draining: {count} connections may finish"));
                log::info!("stopping: no new connections; {count} may finish (a second signal resets them)");
                self.crew.drain();
            }
        }
    }

    /// Has every worker answer once, and notes how long each takes.
    async fn ask_around(self: &Arc<Self>) {
        let hands: Vec<_> = {
            let state = self.state.lock().await;
            (0..).zip(state.hands.iter().cloned().zip(state.answers.iter().cloned())).collect()
        };
        for (worker, (hand, times)) in hands {
            let live = Arc::clone(self);
            tokio::spawn(async move {
                let (reply, answer) = tokio::sync::oneshot::channel();
                let asked = live.clock.now();
                live.tell(&hand, worker, Command::Report { reply });
                if answer.await.is_ok() {
                    let ms = live.clock.now().since(asked).as_millis();
                    times.add_alone(u64::try_from(ms).unwrap_or(u64::MAX));
                }
            });
        }
    }

    /// Reloads when a file of the configuration has changed and has come to rest, and `process.watch` says so. One that is
    /// being written may make sense in parts, and mean something else. The reload is not waited for, since it may wait for
    /// checks; what changes while one runs is found when it has ended.
    async fn watch(self: &Arc<Self>, changed: &mut Option<Vec<Stamp>>) {
        let read = {
            let state = self.state.lock().await;
            let may_reload =
                state.trial.is_none() && !self.crew.is_draining() && self.reloading.try_lock().is_ok();
            let watches = state.config.process.watch && may_reload;
            watches.then(|| state.history.files.clone())
        };
        let Some(read) = read else {
            *changed = None;
            return;
        };
        let now = stamps::again(&read);
        let before = changed.take();
        if now != read && before.as_ref() == Some(&now) {
            let live = Arc::clone(self);
            tokio::spawn(async move { live.reload_file("the configuration has changed", None).await });
        } else if now != read {
            *changed = Some(now);
        }
    }
}
