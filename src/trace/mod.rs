//! Why a connection is allowed or blocked: the deciding rules, the nearest miss, and repairs that are proved.
//!
//! ```text
//! text ─ place ─▶ ends ─ model::connect ─▶ Connection ─ explain ─▶ Flow ─┬─▶ nearest miss
//!                              ▲                                         └─▶ repairs, each re-evaluated
//!                        Scene of the View
//! ```
//!
//! Everything here is pure. `portcullis trace` prints it.

mod alike;
mod compare;
mod explain;
mod nearest;
mod place;
mod repair;
mod try_it;

pub use compare::{Change, Difference, compare};
pub use explain::{Flow, PolicyLine, SideOfFlow, Verdict, explain};
pub use place::{Place, PlaceError, PlaceKind, Port, PortName, Target, parse_target, resolve};
pub use repair::{PatchOf, Repair, repairs};
