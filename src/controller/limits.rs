//! The limits and intervals of the controller, and the jitter that keeps replicas and namespaces from acting in step.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// The limits and intervals of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Maximum number of namespaces that are written concurrently.
    pub at_once: usize,
    /// The resync interval of a namespace, with a jitter of 20 %.
    pub resync: Duration,
    /// The time after a write in which a namespace is not reconciled, so that the watches can report the write.
    pub settle: Duration,
    /// The backoff after the first failure. It doubles with each failure.
    pub retry: Duration,
    /// Maximum backoff.
    pub most_retry: Duration,
    /// Maximum time for the work on one namespace.
    pub patience: Duration,
    /// Minimum time between two reports of a failure in the status of a namespace.
    pub complain: Duration,
    /// The interval at which the controller renews its claim to the cluster. The claim expires after three intervals.
    pub claim: Duration,
    /// The limits on deletions after files were removed from the policies folder.
    pub brake: Brake,
}

/// The limits on the deletion of policies whose files were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brake {
    /// Time between the Event that announces the removal and the first deletion.
    pub notice: Duration,
    /// Length of one interval.
    pub every: Duration,
    /// Maximum share of namespaces in which policies are deleted in one interval, in percent. At least one namespace.
    pub percent: usize,
}

impl Default for Brake {
    fn default() -> Self {
        Self { notice: Duration::from_secs(120), every: Duration::from_secs(60), percent: 10 }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            at_once: 16,
            resync: Duration::from_secs(600),
            settle: Duration::from_millis(300),
            retry: Duration::from_millis(500),
            most_retry: Duration::from_secs(300),
            patience: Duration::from_secs(60),
            complain: Duration::from_secs(60),
            claim: Duration::from_secs(120),
            brake: Brake::default(),
        }
    }
}

impl Pace {
    /// Returns the backoff after this number of consecutive failures.
    pub(super) fn after_failures(&self, failures: u32) -> Duration {
        let doubled = self.retry.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(20)));
        jittered(doubled.min(self.most_retry))
    }

    /// Returns the maximum backoff after reverted writes. It is short, because a hatch may have to be closed meanwhile.
    pub(super) fn most_rest(&self) -> Duration {
        self.retry.saturating_mul(60).min(self.most_retry)
    }

    /// Returns the backoff after a write, if it was reverted this number of times.
    pub(super) fn after_contests(&self, contests: u32) -> Duration {
        if contests == 0 { self.settle } else { self.after_failures(contests).min(self.most_rest()).max(self.settle) }
    }
}

/// Returns a duration with a jitter of up to 20 % in either direction.
pub(super) fn jittered(about: Duration) -> Duration {
    about.mul_f64(0.8 + 0.4 * chance())
}

/// Returns a random number from 0 to 1.
fn chance() -> f64 {
    let [.., high, low] = noise().to_be_bytes();
    f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX)
}

/// Returns an unpredictable number: each `RandomState` has its own keys.
pub(super) fn noise() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let pace = Pace::default();
        let near = |failures, millis: u64| {
            let wait = pace.after_failures(failures);
            let about = Duration::from_millis(millis);
            assert!(wait >= about.mul_f64(0.79) && wait <= about.mul_f64(1.21), "{failures}: {wait:?}");
        };
        near(1, 500);
        near(2, 1000);
        near(5, 8000);
        near(11, 300_000);
        near(u32::MAX, 300_000);
    }

    #[test]
    fn chance_is_spread() {
        let drawn: Vec<f64> = (0..200).map(|_| chance()).collect();
        assert!(drawn.iter().all(|drawn| (0.0..=1.0).contains(drawn)));
        assert!(drawn.iter().any(|drawn| *drawn < 0.3) && drawn.iter().any(|drawn| *drawn > 0.7));
    }
}
