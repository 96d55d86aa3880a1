//! The occasion of a change: its author and its time.

use std::fmt;

use jiff::Timestamp;

/// The author and the time of a change.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The user who makes the change.
    pub author: &'a dyn Author,
    /// The current time.
    pub now: Timestamp,
}

impl Occasion<'_> {
    /// The occasion of a change without an author, such as a manifest in a file.
    #[must_use]
    pub fn anonymous(now: Timestamp) -> Self {
        Self { author: &Anonymous, now }
    }
}

/// No author at the Unix epoch, for checks where neither matters.
impl Default for Occasion<'_> {
    fn default() -> Self {
        Self::anonymous(Timestamp::UNIX_EPOCH)
    }
}

/// The user who makes a change.
pub trait Author: fmt::Debug {
    /// The username at the API server; none for a manifest in a file.
    fn username(&self) -> Option<&str>;

    /// Returns true if the user is in a group.
    fn is_in(&self, group: &str) -> bool;

    /// Checks that the user may bypass a rule.
    ///
    /// # Errors
    /// Fails if the user may not, or if the lookup failed. The error is a clause that completes a message.
    fn may_bypass(&self, rule: &'static str) -> Result<(), String>;

    /// Returns true if the user may list a resource in a namespace or cluster-wide, so that a response may name existing
    /// objects. The name of a resource outside of the core group ends with its group, as in `ingresses.networking.k8s.io`. Manifests in files belong to their author, so this is true by default.
    fn may_list(&self, _resource: &'static str, _namespace: Option<&str>) -> bool {
        true
    }
}

/// The unknown author of a manifest in a file. Permissions are checked later, when a user applies the manifest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Author for Anonymous {
    fn username(&self) -> Option<&str> {
        None
    }

    fn is_in(&self, _group: &str) -> bool {
        false
    }

    fn may_bypass(&self, _rule: &'static str) -> Result<(), String> {
        Ok(())
    }
}

/// An author with a known name and groups, and with a list of users and groups that may bypass rules.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The username.
    pub username: &'a str,
    /// The groups of the user.
    pub groups: &'a [String],
    /// Users and groups that may bypass every rule.
    pub bypass: &'a [String],
}

impl Author for Named<'_> {
    fn username(&self) -> Option<&str> {
        Some(self.username)
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    fn may_bypass(&self, _rule: &'static str) -> Result<(), String> {
        if self.bypass.iter().any(|one| one == self.username || self.is_in(one)) {
            Ok(())
        } else {
            Err(format!("`bypass` lists neither {} nor one of their groups", self.username))
        }
    }
}
