//! The first server of the list that has room.

use super::{Pick, ServerId, first_of};

/// Fills one server after the other, so that those at the end of the list can rest.
#[derive(Clone, Debug)]
pub struct First {
    servers: Box<[ServerId]>,
}

impl First {
    /// A choice among servers with their weights, in the order of the list. A weight of 0 is left out; others are all the same.
    #[must_use]
    pub fn new(servers: &[(ServerId, u16)]) -> Self {
        let servers = servers.iter().filter(|(_, weight)| *weight > 0).map(|(server, _)| *server);
        Self { servers: servers.collect() }
    }

    /// The first server that is not in `tried` and has room.
    #[must_use]
    pub fn pick(&self, tried: &[ServerId], has_room: impl Fn(ServerId) -> bool) -> Pick {
        first_of(self.servers.iter().copied(), tried, has_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_filled_after_the_other() {
        let first = First::new(&[(ServerId(7), 1), (ServerId(2), 0), (ServerId(4), 9)]);
        assert_eq!(first.pick(&[], |_| true), Pick::Server(ServerId(7)));
        assert_eq!(first.pick(&[], |server| server.0 != 7), Pick::Server(ServerId(4)));
        assert_eq!(first.pick(&[ServerId(7)], |_| true), Pick::Server(ServerId(4)));
        assert_eq!(first.pick(&[], |_| false), Pick::Full);
        assert_eq!(first.pick(&[ServerId(7), ServerId(4)], |_| true), Pick::None);
        assert_eq!(First::new(&[]).pick(&[], |_| true), Pick::None);
    }
}
