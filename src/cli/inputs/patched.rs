//! The text of a file with a patch of one of its manifests.

use super::Inputs;
use crate::dialect::Patch;
use crate::yaml::{self, Operation};

impl Inputs {
    /// Returns the text of a file with a patch of the manifest at this position. Comments and layout are kept.
    pub(in crate::cli) fn patched(
        &self,
        file: &str,
        (number, item): (usize, Option<usize>),
        patch: &Patch,
    ) -> Result<String, String> {
        let text = self.text(file).ok_or("the file was not read")?;
        let document = yaml::read_each(text).into_iter().nth(number).and_then(Result::ok);
        let value = document.and_then(|document| document.items().into_iter().nth(item.unwrap_or_default()));
        let value = value.ok_or("the manifest was not found")?.value;
        let expected = patch.applied_to(&value).ok_or("the patch does not apply")?;
        let operations: Vec<Operation> = serde_json::to_string(patch)
            .and_then(|patch| serde_json::from_str(&patch))
            .map_err(|error| error.to_string())?;
        yaml::edit(text, number, item, &operations, &expected).map_err(|error| error.to_string())
    }
}
