//! How fast the controller goes, and a little chance, so that replicas and namespaces do not go in step.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// How fast the controller goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many namespaces are written to at once.
    pub at_once: usize,
    /// After how long a namespace is looked at again though nothing was heard of it, give or take a fifth.
    pub resync: Duration,
    /// How long a namespace that was written to is left alone, until the watches have told what was written.
    pub settle: Duration,
    /// After how long what failed is tried again. It doubles with each failure.
    pub retry: Duration,
    /// After how long at most.
    pub most_retry: Duration,
    /// How long the work on one namespace may take.
    pub patience: Duration,
    /// How often at most the status of a namespace says why something failed.
    pub complain: Duration,
    /// How often the claim of the controller to the cluster is renewed. It expires after three times as long.
    pub claim: Duration,
    /// How removals of files from the policies folder are slowed down.
    pub brake: Brake,
}

/// How the deletion of policies whose files were removed is slowed down.
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
    /// How long to wait after so many failures in a row.
    pub(super) fn after_failures(&self, failures: u32) -> Duration {
        let doubled = self.retry.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(20)));
        jittered(doubled.min(self.most_retry))
    }

    /// How long at most somebody rests whose writes do not stay. A hatch of theirs may have to be closed meanwhile.
    pub(super) fn most_rest(&self) -> Duration {
        self.retry.saturating_mul(60).min(self.most_retry)
    }

    /// How long what was written is left alone, if so many writes in a row did not stay.
    pub(super) fn after_contests(&self, contests: u32) -> Duration {
        if contests == 0 { self.settle } else { self.after_failures(contests).min(self.most_rest()).max(self.settle) }
    }
}

/// About this long: up to a fifth less or more.
pub(super) fn jittered(about: Duration) -> Duration {
    about.mul_f64(0.8 + 0.4 * chance())
}

/// Something from 0 to 1.
fn chance() -> f64 {
    let [.., high, low] = noise().to_be_bytes();
    f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX)
}

/// A number that nobody can foretell: each of these states has keys of its own.
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
