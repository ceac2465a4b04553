//! What the process tells the supervisor that has started it: sd_notify(3). Without one nobody is told anything.

use std::fmt::Display;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::sys::supervisor::Reports;

/// Tells the supervisor how the process is.
#[derive(Clone, Debug)]
pub(super) struct Notifier(Option<Arc<Reports>>);

impl Notifier {
    pub(super) fn new(reports: Option<Reports>) -> Self {
        Self(reports.map(Arc::new))
    }

    /// Every worker serves; after a reload, too.
    pub(super) fn ready(&self, status: impl Display) {
        self.tell(|| format!("READY=1\nSTATUS={status}\n"));
    }

    /// A reload begins. It ends with [`Notifier::ready`], whatever came of it.
    pub(super) fn reloading(&self) {
        self.tell(|| format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading\n", Reports::now_micros()));
    }

    /// The process is about to end.
    pub(super) fn stopping(&self, status: impl Display) {
        self.tell(|| format!("STOPPING=1\nSTATUS={status}\n"));
    }

    /// What the process does, in words for people.
    pub(super) fn status(&self, status: impl Display) {
        self.tell(|| format!("STATUS={status}\n"));
    }

    /// Keeps the watchdog calm, from a thread of its own: so long as `silent` names no worker. It gets the time that
    /// those who are asked have to answer.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(super) fn calm(
        &self,
        limit: Duration,
        silent: impl Fn(Duration) -> Vec<u16> + Send + 'static,
    ) -> std::io::Result<()> {
        let notifier = self.clone();
        let pat = move || {
            loop {
                thread::sleep(limit / 2);
                let silent = silent(limit / 4);
                if silent.is_empty() {
                    notifier.tell(|| "WATCHDOG=1\n".to_owned());
                } else {
                    log::error!(
                        "workers {silent:?} do not turn; the watchdog is not told that all is well, and may end the process"
                    );
                }
            }
        };
        thread::Builder::new().name("watchdog".to_owned()).spawn(pat).map(drop)
    }

    fn tell(&self, report: impl FnOnce() -> String) {
        if let Some(reports) = &self.0
            && let Err(error) = reports.send(&report())
        {
            log::warn!("cannot report to the supervisor (NOTIFY_SOCKET): {error}");
        }
    }
}
