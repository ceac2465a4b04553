//! What the kernel knows of the way to a peer, and what it means in words. Pure.

use std::fmt;

/// What the system knows of the way to a peer (`TCP_INFO`, tcp(7)), of the whole connection but for `rtt_us`, `quiet_ms` and
/// `unheard_ms`. An older kernel leaves zero what it does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The smoothed round-trip time, in microseconds; 0 before the first measure.
    pub rtt_us: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// Segments with data that were sent, again or for the first time.
    pub sent: u32,
    /// Segments with data that have arrived.
    pub received: u32,
    /// Segments that have arrived ahead of others: those were lost, or took another way (Linux 5.4).
    pub out_of_order: u32,
    /// Milliseconds since a byte was last sent or received.
    pub quiet_ms: u32,
    /// Milliseconds since a byte last arrived, whether it was read or not; before the first, since the connection was made.
    pub unheard_ms: u32,
}

/// A path is lossy where of all segments with data, in both directions, this many of a hundred were sent again or came
/// out of order, and so many at least: one or two are chance.
const LOSSY_PERCENT: u64 = 1;
const LOSSY_LEAST: u64 = 3;

/// A path is slow where a round trip takes so long: people notice.
const SLOW_US: u32 = 150_000;

/// What a path is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The system does not tell: a unix socket, or a peer that was never reached.
    Unknown,
    /// Nothing is wrong with it.
    Clean,
    /// Round trips take 150 ms or more.
    Slow,
    /// 1 % of the segments, and three at least, were sent again or came out of order.
    Lossy,
    /// Both.
    LossyAndSlow,
}

impl Condition {
    /// Judges a path.
    #[must_use]
    pub fn of(path: Option<Path>) -> Self {
        let Some(path) = path.filter(|path| path.rtt_us > 0) else { return Self::Unknown };
        let wrong = u64::from(path.retransmits) + u64::from(path.out_of_order);
        let segments = u64::from(path.sent) + u64::from(path.received);
        let is_lossy = wrong >= LOSSY_LEAST && wrong * 100 >= segments * LOSSY_PERCENT;
        match (is_lossy, path.rtt_us >= SLOW_US) {
            (false, false) => Self::Clean,
            (false, true) => Self::Slow,
            (true, false) => Self::Lossy,
            (true, true) => Self::LossyAndSlow,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Unknown => "unknown",
            Self::Clean => "clean",
            Self::Slow => "slow",
            Self::Lossy => "lossy",
            Self::LossyAndSlow => "lossy and slow",
        })
    }
}

/// Both sides of a connection in words: `client path lossy, server path clean`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    client: Condition,
    server: Condition,
}

impl Verdict {
    /// Judges the client's path and the server's; `None` where neither is known.
    #[must_use]
    pub fn of([client, server]: [Option<Path>; 2]) -> Option<Self> {
        let (client, server) = (Condition::of(client), Condition::of(server));
        let is_known = client != Condition::Unknown || server != Condition::Unknown;
        is_known.then_some(Self { client, server })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "client path {}, server path {}", self.client, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_follow_from_the_thresholds() {
        let path = |rtt_us, retransmits, out_of_order, sent, received| {
            Some(Path { rtt_us, retransmits, sent, received, out_of_order, ..Path::default() })
        };
        for (path, expected) in [
            (None, Condition::Unknown),
            (path(0, 0, 0, 0, 0), Condition::Unknown),
            (path(50, 0, 0, 0, 0), Condition::Clean),
            (path(149_999, 0, 0, 10, 10), Condition::Clean),
            (path(150_000, 0, 0, 10, 10), Condition::Slow),
            // Two of ten are chance.
            (path(50, 2, 0, 10, 0), Condition::Clean),
            (path(50, 3, 0, 10, 0), Condition::Lossy),
            (path(50, 0, 3, 0, 10), Condition::Lossy),
            (path(50, 2, 1, 5, 5), Condition::Lossy),
            // One in a hundred, of both directions together.
            (path(50, 10, 0, 500, 500), Condition::Lossy),
            (path(50, 9, 0, 500, 500), Condition::Clean),
            (path(50, 10, 0, 500, 501), Condition::Clean),
            (path(210_000, 40, 0, 1_000, 0), Condition::LossyAndSlow),
            (path(50, u32::MAX, u32::MAX, u32::MAX, u32::MAX), Condition::Lossy),
        ] {
            assert_eq!(Condition::of(path), expected, "{path:?}");
        }
    }

    #[test]
    fn a_verdict_is_a_sentence_about_both() {
        let clean = Some(Path { rtt_us: 240, sent: 900, ..Path::default() });
        let lossy = Some(Path { rtt_us: 18_000, sent: 1_000, retransmits: 40, ..Path::default() });
        let slow = Some(Path { rtt_us: 400_000, ..Path::default() });
        for (paths, expected) in [
            ([lossy, clean], Some("client path lossy, server path clean")),
            ([slow, None], Some("client path slow, server path unknown")),
            ([None, clean], Some("client path unknown, server path clean")),
            ([None, None], None),
        ] {
            assert_eq!(Verdict::of(paths).map(|verdict| verdict.to_string()).as_deref(), expected);
        }
    }
}
