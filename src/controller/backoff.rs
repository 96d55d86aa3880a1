//! The backoff after failures and reverted writes, and the jitter that keeps replicas and namespaces from acting in step.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::limits::Limits;

impl Limits {
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
    pub(super) fn after_reverts(&self, reverts: u32) -> Duration {
        if reverts == 0 { self.settle } else { self.after_failures(reverts).min(self.most_rest()).max(self.settle) }
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
        let limits = Limits::default();
        let near = |failures, millis: u64| {
            let wait = limits.after_failures(failures);
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
