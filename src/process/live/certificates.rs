//! Certificates that servers show in TLS checks: when they end, and a warning before they do.

use super::Live;
use crate::control::model::Certificate;
use crate::control::words;
use crate::tick::Tick;

/// From here on there are warnings, in days: a certificate that is renewed by itself is renewed before.
const SOON: i64 = 14;

/// A warning is repeated after a day, in milliseconds. A server behind whose address there are several certificates is no
/// reason for more of them.
const DAY_MS: u64 = 86_400_000;

/// The certificate that checks of one target were shown last.
#[derive(Default)]
pub(super) struct Seen {
    /// In seconds since 1970.
    ends_at: Option<u64>,
    warned: Option<Tick>,
}

impl Seen {
    /// Takes note of a check. One that saw no certificate says nothing of it.
    pub(super) fn note(&mut self, ends_at: Option<u64>) {
        self.ends_at = ends_at.or(self.ends_at);
    }

    /// As it is shown, at this time of day.
    pub(super) fn shown(&self, wall_ms: i64) -> Option<Certificate> {
        let ends_at = self.ends_at?;
        let left = i64::try_from(ends_at).unwrap_or(i64::MAX).saturating_sub(wall_ms.div_euclid(1_000));
        Some(Certificate { ends_at, days_left: left.div_euclid(86_400) })
    }

    /// The certificate, if it ends soon and nobody was warned for a day. Somebody is warned now.
    fn due(&mut self, now: Tick, wall_ms: i64) -> Option<Certificate> {
        let ends_soon = self.shown(wall_ms).filter(|certificate| certificate.days_left < SOON)?;
        if self.warned.is_some_and(|at| now.0.saturating_sub(at.0) < DAY_MS) {
            return None;
        }
        self.warned = Some(now);
        Some(ends_soon)
    }
}

impl Live {
    /// Warns of certificates that end soon.
    pub(super) async fn mind_certificates(&self) {
        let (now, wall_ms) = (self.clock.now(), self.clock.wall_ms());
        let mut state = self.state.lock().await;
        for (servers, certificate) in state.wards.certificates(|seen| seen.due(now, wall_ms)) {
            log::warn!("the certificate of {servers} {}", words::certificate(&certificate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;
    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn ending(ends_at: u64) -> Seen {
        Seen { ends_at: Some(ends_at), warned: None }
    }

    #[test]
    fn days_are_rounded_down_and_negative_once_it_has_ended() {
        let cases = [
            (NOW + 2 * DAY, 2),
            (NOW + 2 * DAY - 1, 1),
            (NOW, 0),
            (NOW - 1, -1),
            (NOW - DAY, -1),
            (NOW - DAY - 1, -2),
            (0, -20_834),
            (u64::MAX, (i64::MAX - 1_800_000_000) / 86_400),
        ];
        for (ends_at, days_left) in cases {
            assert_eq!(ending(ends_at).shown(NOW_MS), Some(Certificate { ends_at, days_left }), "{ends_at}");
        }
        assert_eq!(Seen::default().shown(NOW_MS), None);
    }

    #[test]
    fn a_check_without_a_certificate_takes_nothing_back() {
        let mut seen = Seen::default();
        seen.note(Some(NOW));
        seen.note(None);
        assert_eq!(seen.ends_at, Some(NOW));
        seen.note(Some(NOW + DAY));
        assert_eq!(seen.ends_at, Some(NOW + DAY));
    }

    #[test]
    fn a_warning_comes_under_fourteen_days_and_once_a_day() {
        let mut seen = ending(NOW + 14 * DAY);
        assert_eq!(seen.due(Tick(5), NOW_MS), None);
        assert_eq!(seen.due(Tick(6), NOW_MS + 1_000).map(|it| it.days_left), Some(13));
        // Another one that ends soon, too.
        seen.note(Some(NOW + DAY));
        assert_eq!(seen.due(Tick(7), NOW_MS + 2_000), None);
        assert_eq!(seen.due(Tick(5 + DAY_MS), NOW_MS), None);
        assert_eq!(seen.due(Tick(6 + DAY_MS), NOW_MS).map(|it| it.days_left), Some(1));
        // It was renewed.
        seen.note(Some(NOW + 90 * DAY));
        assert_eq!(seen.due(Tick(7 + 9 * DAY_MS), NOW_MS), None);
        assert_eq!(Seen::default().due(Tick(0), NOW_MS), None);
    }
}
