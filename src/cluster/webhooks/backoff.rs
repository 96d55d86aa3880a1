//! The pause between writes that another writer keeps reverting.

use std::time::{Duration, Instant};

/// Number of writes without a pause, so that a user who tries something twice does not have to wait.
const FREE_WRITES: u32 = 2;
/// The first pause. It doubles with each further write.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Maximum pause.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Time without a write after which the count starts again.
const CALM: Duration = Duration::from_secs(600);

/// The backoff of the writes of one configuration.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    writes: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// Returns true if the configuration may be written now.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.pause())
    }

    /// Counts a write, and returns the number of writes in a row.
    pub(super) fn wrote(&mut self, now: Instant) -> u32 {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= CALM) {
            self.writes = 0;
        }
        self.writes = self.writes.saturating_add(1);
        self.last = Some(now);
        self.writes
    }

    /// Returns true if this number of writes in a row shows that another writer reverts them.
    pub(super) fn is_contested(writes: u32) -> bool {
        writes > FREE_WRITES
    }

    fn pause(&self) -> Duration {
        match self.writes.checked_sub(FREE_WRITES) {
            None => Duration::ZERO,
            Some(more) => FIRST_PAUSE.saturating_mul(2u32.saturating_pow(more.min(10))).min(MAX_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_do_not_last_become_rare_and_calm_resets_that() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let mut waited = 0;
            while !backoff.is_over(now) {
                now += Duration::from_secs(1);
                waited += 1;
            }
            waits.push(waited);
            backoff.wrote(now);
        }
        assert_eq!(waits, [0, 0, 5, 10, 20, 40, 60, 60]);
        now += CALM;
        assert!(backoff.is_over(now));
        assert_eq!(backoff.wrote(now), 1);
        assert!(backoff.is_over(now));
    }
}
