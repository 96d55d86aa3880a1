//! The status of the watches.

use std::collections::BTreeMap;
use std::time::Instant;

/// The status of the watch of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchStatus {
    /// The first list is not complete. Holds the reason if it failed.
    Syncing(Option<String>),
    /// The list is complete, and the watch reports changes.
    Synced,
    /// The watch was synced, and is lost. The objects that it reported stay in the view.
    Lost {
        /// The time since which the watch is lost.
        since: Instant,
        /// The reason.
        why: String,
    },
}

/// The status of discovery and of the watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The reason why the view is not complete yet. None as soon as every watch has completed its first list, even if
    /// some are lost later.
    pub unsynced: Option<String>,
    /// The reason why the last discovery failed, if it did.
    pub discovery: Option<String>,
    /// The status of the watches, by the name of the kind.
    pub watches: BTreeMap<String, WatchStatus>,
    /// Kinds that are served only in unlisted versions, and how these are treated, by the name of the kind.
    pub other_versions: BTreeMap<String, String>,
    /// Groups whose discovery failed: the reason, by the name of the group.
    pub unclear: BTreeMap<String, String>,
    /// The number of unreadable objects and one of them with its problem, by the name of the kind.
    pub unreadable: BTreeMap<String, (usize, String)>,
}
