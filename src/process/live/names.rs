//! Names of servers, looked up again and again.

use std::sync::Arc;
use std::time::Duration;

use super::inquiries::{Heard, Inquiries, Inquiry, Memory};
use super::sources::{FIRST_MOST, News};
use crate::config::{Config, Dns, DnsName};
use crate::control::discovery::ask::{Asker, HOSTS_MOST};
use crate::control::discovery::{Found, MOST, Name, Outcome};
use crate::sys::Clock;

/// How a name is looked up.
pub(super) struct Lookup {
    of: DnsName,
    asker: Arc<Asker>,
    rules: Arc<Dns>,
    clock: Clock,
}

impl Inquiry for Lookup {
    type Key = DnsName;
    type Known = Name;
    const NEWS: fn(Heard<Self>) -> News = News::Name;

    async fn ask(&mut self, name: &mut Name) -> Duration {
        let answer = self.asker.ask(&self.of).await;
        let before = name.last().map(|(outcome, _)| outcome);
        let was_whole = name.left_out() == 0;
        let wait = name.note(answer, &self.rules, self.clock.now());
        if name.left_out() > 0 && was_whole {
            let used = name.servers().len();
            log::warn!(
                "{} stands for {} servers, and {used} are used: those of {HOSTS_MOST} hosts of a service, and {MOST} of a name, at \
                 most",
                self.of,
                used + name.left_out()
            );
        }
        report(&self.of, before, name, &self.rules);
        wait
    }
}

impl Inquiries<Lookup> {
    /// Looks up the names of this configuration.
    pub(super) async fn adopt_names(
        &mut self,
        file: &Config,
        memory: &Memory<Lookup>,
        clock: Clock,
        asker: &Arc<Asker>,
    ) {
        let rules = Arc::new(file.dns.clone());
        let names = file.pools.iter().flat_map(|pool| &pool.named).map(|server| &server.addr);
        let lookup = |of: &DnsName| {
            let (asker, rules) = (Arc::clone(asker), Arc::clone(&rules));
            (of.clone(), Lookup { of: of.clone(), asker, rules, clock })
        };
        let all = names.map(lookup).collect();
        self.adopt(all, memory, file.dns.timeout.min(FIRST_MOST)).await;
    }

    /// The servers that a name stands for, as far as is known.
    pub(super) fn servers(&self, name: &DnsName) -> &[Found] {
        self.of(name).map_or(&[], Name::servers)
    }
}

/// Tells of what is not as it was: of a failure once, and of its end.
fn report(of: &DnsName, before: Option<Outcome>, is: &Name, rules: &Dns) {
    let Some((outcome, why)) = is.last() else { return };
    if before == Some(outcome) {
        return;
    }
    let why = why.unwrap_or_default();
    let count = is.servers().len();
    let stay =
        if count == 1 { "its one server stays".to_owned() } else { format!("its {count} servers stay") };
    match outcome {
        Outcome::Found if before.is_some() => log::info!("{of} is found again"),
        Outcome::Found => {}
        Outcome::Failed if count > 0 => {
            log::warn!("{of} cannot be looked up: {why}; {stay}");
        }
        Outcome::Missing if count > 0 => {
            log::warn!("{of}: {why}; {stay} for {:?}", rules.hold);
        }
        Outcome::Failed | Outcome::Missing => log::warn!("{of} has no servers: {why}"),
    }
}
