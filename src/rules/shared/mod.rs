//! Helpers that several rules share.
//!
//! | helper | answers |
//! |---|---|
//! | [`attribution`] | which policy, or which of its rules, blocks a connection? |
//! | [`bypass`] | which user makes the change, and who may make it instead? |
//! | [`cluster_dns`] | which endpoints serve DNS, can pods reach them, and which rule allows them? |
//! | [`combined_peers`] | which peer do several rules share? |
//! | [`combined_rules`] | which ports do several rules for the same pods allow together? |
//! | [`destination`] | which known pods does a rule lead to, and on which ports do they listen? |
//! | [`host_policies`] | is a policy for hosts and not for pods? |
//! | [`label_suggestion`] | which existing label is similar to a label without a match? |
//! | [`later_stages`] | does a later stage stop what a Pass rule passes on? |
//! | [`near_miss`] | which rule comes closest to allowing a flow, and what is its fault? |
//! | [`profiles`] | which namespace with a profile does a policy affect? |
//! | [`spelling`] | how does a dialect spell the label of a namespace? |
//! | [`well_known`] | which pods does a setting name, and which addresses does only a node have? |
//!
//! The texts of findings are written with the macro `text!`, which limits their length.

pub(super) mod attribution;
pub(super) mod bypass;
pub(super) mod cluster_dns;
pub(super) mod combined_peers;
pub(super) mod combined_rules;
pub(super) mod destination;
pub(super) mod host_policies;
pub(super) mod label_suggestion;
pub(super) mod later_stages;
pub(super) mod near_miss;
pub(super) mod profiles;
pub(super) mod spelling;
pub(super) mod well_known;
