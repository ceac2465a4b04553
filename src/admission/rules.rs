//! Rules about addresses, made ready for a quick answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{AccessRules, Action};

/// Rules of which the first that names an address decides. All addresses are cut at every network's ends, and the rule
/// that decides is known for each piece; an answer is one binary search, whatever the number of rules.
#[derive(Debug)]
pub struct Rules {
    v4: Pieces<u32>,
    v6: Pieces<u128>,
    /// By the number of the rule; the default comes last.
    allows: Vec<bool>,
}

/// Every address, in pieces.
#[derive(Debug)]
struct Pieces<Address> {
    /// Where each begins; the first at zero.
    starts: Vec<Address>,
    /// Which rule decides in each.
    deciders: Vec<u32>,
}

impl Rules {
    /// `rules` with their `default`.
    ///
    /// # Panics
    /// If there are 2^32 rules or more.
    #[must_use]
    pub fn new(access: &AccessRules) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (number, rule) in (0..).zip(&access.rules) {
            match rule.network {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits(), number)),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits(), number)),
            }
        }
        let actions = access.rules.iter().map(|rule| rule.action).chain([access.default]);
        let default = u32::try_from(access.rules.len()).expect("a file has far fewer rules");
        Self {
            v4: Pieces::new(&v4, default, |last| last.checked_add(1)),
            v6: Pieces::new(&v6, default, |last| last.checked_add(1)),
            allows: actions.map(|action| action == Action::Allow).collect(),
        }
    }

    /// Whether a client of that address is let in. An IPv6 address that stands for one of IPv4 is taken for that.
    #[must_use]
    pub fn allow(&self, client: IpAddr) -> bool {
        self.allows[self.decider(client) as usize]
    }

    /// Whether nobody is let in, whatever the address.
    #[must_use]
    pub fn allow_nobody(&self) -> bool {
        self.v4.deciders.iter().chain(&self.v6.deciders).all(|rule| !self.allows[*rule as usize])
    }

    /// The rules that decide about no address, since rules before them do, by their numbers from 0.
    #[must_use]
    pub fn idle(&self) -> Vec<usize> {
        let used: BTreeSet<u32> = self.v4.deciders.iter().chain(&self.v6.deciders).copied().collect();
        let rules = 0..self.allows.len() - 1;
        rules.filter(|rule| !used.contains(&u32::try_from(*rule).unwrap_or(u32::MAX))).collect()
    }

    fn decider(&self, client: IpAddr) -> u32 {
        match client.to_canonical() {
            IpAddr::V4(addr) => self.v4.decider(addr.to_bits()),
            IpAddr::V6(addr) => self.v6.decider(addr.to_bits()),
        }
    }
}

impl<Address: Copy + Ord + Default> Pieces<Address> {
    /// `ranges` are first and last addresses with the number of their rule; `after` is the next address.
    fn new(
        ranges: &[(Address, Address, u32)],
        default: u32,
        after: impl Fn(Address) -> Option<Address>,
    ) -> Self {
        let begins = ranges.iter().map(|(first, _, rule)| (*first, *rule, true));
        let ends = ranges.iter().filter_map(|(_, last, rule)| Some((after(*last)?, *rule, false)));
        let mut cuts: Vec<(Address, u32, bool)> = begins.chain(ends).collect();
        cuts.sort_unstable();
        let mut pieces = Self { starts: vec![Address::default()], deciders: vec![default] };
        let mut here = BTreeSet::from([default]);
        for (index, (at, rule, begins)) in cuts.iter().enumerate() {
            if *begins {
                here.insert(*rule);
            } else {
                here.remove(rule);
            }
            let is_last_here = cuts.get(index + 1).is_none_or(|(next, ..)| next != at);
            if is_last_here && let Some(first) = here.first() {
                pieces.add(*at, *first);
            }
        }
        pieces
    }

    /// From `start` on, another rule decides.
    fn add(&mut self, start: Address, decider: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.deciders.pop();
        }
        if self.deciders.last() != Some(&decider) {
            self.starts.push(start);
            self.deciders.push(decider);
        }
    }

    fn decider(&self, address: Address) -> u32 {
        self.deciders[self.starts.partition_point(|start| *start <= address) - 1]
    }
}

#[cfg(test)]
mod tests {
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;
    use crate::config::{MatchOn, Rule};

    fn access(default: Action, rules: &[(Action, &str)]) -> AccessRules {
        let rules = rules.iter();
        let rules = rules.map(|(action, net)| Rule { action: *action, network: net.parse().expect(net) });
        AccessRules { default, rules: rules.collect(), match_on: MatchOn::Client }
    }

    /// One rule after the other, as the reference says it.
    fn walked(access: &AccessRules, client: IpAddr) -> Action {
        let first = access.rules.iter().find(|rule| rule.network.contains(&client));
        first.map_or(access.default, |rule| rule.action)
    }

    use Action::{Allow, Deny};

    #[test]
    fn the_first_rule_that_names_a_client_decides() {
        let rules = [(Deny, "10.9.0.0/16"), (Allow, "10.0.0.0/8"), (Allow, "fd00::/8")];
        let rules = Rules::new(&access(Deny, &rules));
        let cases = [
            ("10.8.255.255", true),
            ("10.9.0.0", false),
            ("10.9.255.255", false),
            ("10.10.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("255.255.255.255", false),
            ("0.0.0.0", false),
            ("fd00::1", true),
            ("fe00::", false),
            ("::ffff:10.1.1.1", true),
            ("::ffff:10.9.1.1", false),
        ];
        for (client, let_in) in cases {
            assert_eq!(rules.allow(client.parse().unwrap()), let_in, "{client}");
        }
    }

    #[test]
    fn without_rules_the_default_decides() {
        for (default, let_in) in [(Allow, true), (Deny, false)] {
            let rules = Rules::new(&access(default, &[]));
            assert_eq!(rules.allow("192.0.2.1".parse().unwrap()), let_in);
            assert_eq!(rules.allow("::1".parse().unwrap()), let_in);
            assert_eq!(rules.allow_nobody(), !let_in);
        }
    }

    #[test]
    fn networks_that_end_with_all_addresses_end_there() {
        let rules = Rules::new(&access(Allow, &[(Deny, "0.0.0.0/0"), (Deny, "::/0")]));
        assert!(!rules.allow("255.255.255.255".parse().unwrap()));
        assert!(!rules.allow("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
        assert!(rules.allow_nobody());
    }

    #[test]
    fn rules_that_decide_nothing_are_found() {
        let rules = [
            (Allow, "10.0.0.0/8"),
            (Deny, "10.9.0.0/16"),
            (Deny, "0.0.0.0/1"),
            (Deny, "128.0.0.0/1"),
            (Allow, "192.0.2.0/24"),
            (Allow, "fd00::/8"),
        ];
        assert_eq!(Rules::new(&access(Deny, &rules)).idle(), [1, 4]);
    }

    proptest! {
        #[test]
        fn an_answer_is_that_of_the_rules_one_after_the_other(
            nets in prop::collection::vec((any::<u32>(), 0..=32_u8, any::<bool>(), any::<bool>()), 0..40),
            clients in prop::collection::vec((any::<u32>(), any::<bool>()), 40),
            default in any::<bool>(),
        ) {
            let action = |allow| if allow { Allow } else { Deny };
            // Few different bits, so that networks meet.
            let few = |bits: u32| bits & 0xC000_0003;
            let rule = |(bits, prefix, is_v6, allow): &(u32, u8, bool, bool)| {
                let network = if *is_v6 {
                    let bits = u128::from(few(*bits)) << 96 | u128::from(few(*bits));
                    IpNet::V6(Ipv6Net::new(bits.into(), prefix * 4).unwrap().trunc())
                } else {
                    IpNet::V4(Ipv4Net::new(few(*bits).into(), *prefix).unwrap().trunc())
                };
                Rule { action: action(*allow), network }
            };
            let access = AccessRules {
                default: action(default),
                rules: nets.iter().map(rule).collect(),
                match_on: MatchOn::Peer,
            };
            let rules = Rules::new(&access);
            let ends = access.rules.iter().flat_map(|rule| [rule.network.network(), rule.network.broadcast()]);
            let drawn = clients.iter().map(|(bits, is_v6)| -> IpAddr {
                if *is_v6 {
                    std::net::Ipv6Addr::from_bits(u128::from(few(*bits)) << 96).into()
                } else {
                    std::net::Ipv4Addr::from_bits(few(*bits)).into()
                }
            });
            for client in ends.chain(drawn).filter(|client| client.to_canonical() == *client) {
                prop_assert_eq!(rules.allow(client), walked(&access, client) == Allow, "{}", client);
            }
        }
    }
}
