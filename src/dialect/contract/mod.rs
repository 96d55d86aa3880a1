//! `portcullis.dev`: Contract, a statement about connections that has to hold whatever the policies are.
//!
//! The words of a contract are those of the NetworkPolicy API where that has a word: `namespaceSelector`, `podSelector`,
//! `cidr`, `port`, `endPort`, `protocol`. An unknown field is an error: a contract without it could say something else.

mod read;
mod wire;
mod write;

pub use write::write;

use super::{Dialect, Kind, Manifest, Patch, ReadError};
use crate::model::{Fix, Object};

/// The dialect of contracts.
#[derive(Debug)]
pub struct Contracts;

impl Dialect for Contracts {
    fn name(&self) -> &'static str {
        "contract"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind { group: "portcullis.dev", versions: &["v1alpha1"], kind: "Contract" }]
    }

    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
        read::object(manifest)
    }

    fn fix(&self, _fix: &Fix, _manifest: &Manifest<'_>) -> Option<Patch> {
        None
    }
}
