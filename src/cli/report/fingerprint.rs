//! Fingerprints, by which a pipeline recognises a finding of an earlier run.

use std::collections::HashMap;

use super::{Entry, Report, place};
use crate::cli::inputs::Problem;
use crate::model::{Path, Step};
use crate::rules;

/// Returns a fingerprint for each finding of a report: 32 hexadecimal digits, each one only once.
///
/// It depends on the file, the object, the rule, the fields and the message, but neither on lines nor on positions in
/// lists. Equal findings of one object are numbered.
pub(super) fn of(report: &Report) -> Vec<String> {
    numbered(report.entries.iter().map(hash))
}

/// Returns a fingerprint for each error of a report. It depends on the file and the message.
pub(super) fn of_errors(report: &Report) -> Vec<String> {
    let hash =
        |problem: &Problem| Hash::EMPTY.with("error").with(&place::relative(&problem.file)).with(&problem.message);
    numbered(report.errors.iter().map(hash))
}

/// Formats hashes. A hash that occurs again is changed by its number.
fn numbered(hashes: impl Iterator<Item = Hash>) -> Vec<String> {
    let mut seen: HashMap<u128, usize> = HashMap::new();
    let fingerprints = hashes.map(|hash| {
        let count = seen.entry(hash.0).or_default();
        *count += 1;
        let hash = if *count == 1 { hash } else { hash.with(&count.to_string()) };
        format!("{:032x}", hash.0)
    });
    fingerprints.collect()
}

fn hash(entry: &Entry) -> Hash {
    let finding = &entry.judgement.finding;
    let object = &finding.object;
    let namespace = object.namespace.as_deref().unwrap_or_default();
    // The messages of rules name no lines. Those of other findings do.
    let message = rules::find(finding.rule).map(|_| finding.message.as_str()).unwrap_or_default();
    [&place::relative(&entry.file), finding.rule, object.group(), &object.kind, namespace, &object.name, message]
        .into_iter()
        .fold(Hash::EMPTY, Hash::with)
        .with(&without_positions(&finding.path))
}

/// Returns a path without the positions in lists.
fn without_positions(path: &Path) -> String {
    let names = path.steps().iter().map(|step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::Key(key) => format!("[{key:?}]"),
        Step::Index(_) => "[]".to_owned(),
    });
    names.collect()
}

/// FNV-1a with 128 bits. The hash of the standard library may change between versions of the compiler.
#[derive(Clone, Copy)]
struct Hash(u128);

impl Hash {
    const EMPTY: Self = Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    /// Adds a text and its length, so that no two lists of texts are equal.
    fn with(self, text: &str) -> Self {
        let bytes = text.bytes().chain((text.len() as u64).to_le_bytes());
        bytes.fold(self, |Self(hash), byte| Self((hash ^ u128::from(byte)).wrapping_mul(Self::PRIME)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // FNV-1a of the eight bytes of a length of zero.
        let zeros = [0u8; 8].iter().fold(Hash::EMPTY.0, |hash, _| hash.wrapping_mul(Hash::PRIME));
        assert_eq!(Hash::EMPTY.with("").0, zeros);
        assert_ne!(Hash::EMPTY.with("ab").with("c").0, Hash::EMPTY.with("a").with("bc").0);
    }

    #[test]
    fn a_path_keeps_its_fields_and_keys() {
        let path = Path::root().field("spec").field("ingress").index(3).field("from");
        assert_eq!(without_positions(&path), ".spec.ingress[].from");
        assert_eq!(without_positions(&path.key("a.b")), ".spec.ingress[].from[\"a.b\"]");
    }
}
