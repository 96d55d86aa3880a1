//! How the watches are.

use std::collections::BTreeMap;
use std::time::Instant;

/// How the watch of one kind is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchStatus {
    /// It has not told all there is yet, perhaps because something is in the way.
    Syncing(Option<String>),
    /// It has told all there is, and goes on.
    Synced,
    /// It had told all there was. What it told stays.
    Lost {
        /// Since when nothing is heard.
        since: Instant,
        /// Why.
        why: String,
    },
}

/// How everything is that feeds the view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why the view does not tell yet what is in the cluster. None from the moment on when every watch has told all there
    /// was, even if some are lost later.
    pub unsynced: Option<String>,
    /// Why it is not known what the cluster serves, if it is not.
    pub discovery: Option<String>,
    /// The watches, by the name of the kind.
    pub watches: BTreeMap<String, WatchStatus>,
    /// Kinds that are served, and in no version that is understood: what is wrong, by the name of the kind.
    pub other_versions: BTreeMap<String, String>,
    /// Groups of which it could not be found out what is in them, and why.
    pub unclear: BTreeMap<String, String>,
    /// How many objects cannot be read, and one of them with what is wrong, by the name of the kind.
    pub unreadable: BTreeMap<String, (usize, String)>,
}
