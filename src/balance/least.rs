//! The server with the fewest connections for its weight, of all.

use super::rotate::cycle;
use super::{Cursor, Pick, ServerId, around};

/// Looks at every server; those with equally few take turns, as often as their weights say.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct LeastConnections {
    cursor: Cursor,
    /// Where each pick begins to look: places in `servers`.
    turns: Box<[usize]>,
    servers: Box<[(ServerId, u16)]>,
}

impl LeastConnections {
    /// A choice among servers with their weights. A weight of 0 is left out.
    #[must_use]
    pub fn new(servers: &[(ServerId, u16)]) -> Self {
        let servers: Box<_> = servers.iter().copied().filter(|(_, weight)| *weight > 0).collect();
        let weights: Vec<u16> = servers.iter().map(|(_, weight)| *weight).collect();
        Self { cursor: Cursor::default(), turns: cycle(&weights).into(), servers }
    }

    /// Goes on where `other` is, so that a reload gives nobody two turns.
    #[must_use]
    pub fn after(self, other: &Self) -> Self {
        Self { cursor: other.cursor.clone(), ..self }
    }

    /// The server that is not in `tried` and has the fewest connections for its weight. `load` tells them, with those that
    /// are being made, or `None` when the server is full.
    #[must_use]
    pub fn pick(&self, tried: &[ServerId], load: impl Fn(ServerId) -> Option<u32>) -> Pick {
        let mut none = Pick::None;
        let mut best: Option<(ServerId, u64, u64)> = None;
        let start = self.turns.get(self.cursor.turn(self.turns.len())).copied().unwrap_or(0);
        let left = around(&self.servers, start).filter(|(server, _)| !tried.contains(server));
        for (server, weight) in left {
            none = Pick::Full;
            let Some(load) = load(*server) else { continue };
            // Connections for each unit of weight, compared without dividing. This one is not counted among them: else of two
            // at rest only the heavier would ever be chosen.
            let (load, weight) = (u64::from(load), u64::from(*weight));
            if best.is_none_or(|(_, least, against)| load * against < least * weight) {
                best = Some((*server, load, weight));
            }
        }
        best.map_or(none, |(server, _, _)| Pick::Server(server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_connections_for_the_weight_win() {
        let least = LeastConnections::new(&[(ServerId(3), 1), (ServerId(5), 4), (ServerId(9), 0)]);
        assert_eq!(
            least.pick(&[], |server| Some(if server.0 == 5 { 3 } else { 1 })),
            Pick::Server(ServerId(5))
        );
        assert_eq!(
            least.pick(&[], |server| Some(if server.0 == 5 { 9 } else { 1 })),
            Pick::Server(ServerId(3))
        );
        assert_eq!(least.pick(&[ServerId(3)], |_| Some(70)), Pick::Server(ServerId(5)));
        assert_eq!(least.pick(&[ServerId(3), ServerId(5)], |_| Some(0)), Pick::None);
        assert_eq!(least.pick(&[], |server| (server.0 == 3).then_some(99)), Pick::Server(ServerId(3)));
        assert_eq!(least.pick(&[], |_| None), Pick::Full);
        assert_eq!(LeastConnections::new(&[]).pick(&[], |_| Some(0)), Pick::None);
    }

    #[test]
    fn equals_take_turns() {
        let least = LeastConnections::new(&[(ServerId(0), 2), (ServerId(1), 2), (ServerId(2), 2)]);
        let picks: Vec<_> = (0..4).map(|_| least.pick(&[], |_| Some(7))).collect();
        assert_eq!(picks, [0, 1, 2, 0].map(|id| Pick::Server(ServerId(id))));
    }

    #[test]
    fn at_rest_they_take_turns_by_weight() {
        let least = LeastConnections::new(&[(ServerId(0), 3), (ServerId(1), 1)]);
        let picks: Vec<_> = (0..8).map(|_| least.pick(&[], |_| Some(0))).collect();
        assert_eq!(picks, [0, 0, 1, 0, 0, 0, 1, 0].map(|id| Pick::Server(ServerId(id))));
        let same = [(ServerId(0), 1), (ServerId(1), 1)];
        let before = LeastConnections::new(&same);
        assert_eq!(before.pick(&[], |_| Some(0)), Pick::Server(ServerId(0)));
        let next = LeastConnections::new(&same).after(&before);
        assert_eq!(next.pick(&[], |_| Some(0)), Pick::Server(ServerId(1)));
    }
}
