//! The audit of a cluster or of manifests: which pods are isolated, which policies have no effect, what the rules
//! report, and which connections are possible.

mod report;

pub use report::{
    Actions, BaselineState, Directions, FoundIn, FoundPlugin, HatchState, Item, Matrix, NamespaceCell, NamespaceState,
    Outcomes, Plugin, Reach, Report, RuleFinding, Section, Summary, Unread, WorkloadCell, WorkloadMatrix,
    WorkloadState,
};
