//! The limits and intervals of the controller.

use std::time::Duration;

/// The limits and intervals of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
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
    pub brake: RemovalLimits,
}

/// The limits on the deletion of policies whose files were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalLimits {
    /// Time between the Event that announces the removal and the first deletion.
    pub notice: Duration,
    /// Length of one interval.
    pub every: Duration,
    /// Maximum share of namespaces in which policies are deleted in one interval, in percent. At least one namespace.
    pub percent: usize,
}

impl Default for RemovalLimits {
    fn default() -> Self {
        Self { notice: Duration::from_secs(120), every: Duration::from_secs(60), percent: 10 }
    }
}

impl Default for Limits {
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
            brake: RemovalLimits::default(),
        }
    }
}
