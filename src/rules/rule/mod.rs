//! What a rule is: its definition, the [`Case`] that it checks, and the [`Findings`] that it adds.

#[macro_use]
mod definition;
#[macro_use]
pub(super) mod text;
mod author;
mod case;
mod findings;
mod schema;

pub use author::{Anonymous, Author, Named, Occasion};
pub use case::{Case, Change, Old};
pub use definition::{ChangeKind, Definition, Mode, Rule};
pub(crate) use definition::{Defined, SettingsError};
pub use findings::Findings;
