//! On what occasion a change is judged: who makes it, and when.

use std::fmt;

use jiff::Timestamp;

/// Who makes a change, and when.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// Who makes it.
    pub author: &'a dyn Author,
    /// What time it is.
    pub now: Timestamp,
}

impl Occasion<'_> {
    /// Nobody in particular makes it yet.
    #[must_use]
    pub fn anonymous(now: Timestamp) -> Self {
        Self { author: &Anonymous, now }
    }
}

/// Nobody in particular, at the start of all clocks: where neither matters.
impl Default for Occasion<'_> {
    fn default() -> Self {
        Self::anonymous(Timestamp::UNIX_EPOCH)
    }
}

/// Who makes a change.
pub trait Author: fmt::Debug {
    /// The name by which the API server knows them; none where nobody says.
    fn username(&self) -> Option<&str>;

    /// Whether they are in a group.
    fn is_in(&self, group: &str) -> bool;

    /// Whether they may do what a rule forbids.
    ///
    /// # Errors
    /// They may not, or it could not be found out: why, as the end of a sentence that starts with what they would have to
    /// be allowed.
    fn may_bypass(&self, rule: &'static str) -> Result<(), String>;

    /// Returns true if they may list a core resource in a namespace, or in the cluster, so that an answer may name what is
    /// there. Manifests in files are the author's own.
    fn may_list(&self, _resource: &'static str, _namespace: Option<&str>) -> bool {
        true
    }
}

/// Whoever it will be: a manifest in a file has no author yet. What they may do is found out when they come with it.
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

/// An author of whom it is said who they are, and who else may do what rules forbid.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The name.
    pub username: &'a str,
    /// The groups.
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
            Err(format!("neither {} nor a group of theirs is listed in `bypass`", self.username))
        }
    }
}
