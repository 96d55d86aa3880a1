//! The operations of a JSON patch, with the order of the fields in their values.

use super::ordered::Ordered;

/// An operation of a JSON patch (RFC 6902).
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Sets a field of an object, or inserts an item into an array.
    Add {
        /// The JSON pointer. `-` as the last part stands for the end of an array.
        path: String,
        /// The value.
        value: Ordered,
    },
    /// Replaces an existing value.
    Replace {
        /// The JSON pointer.
        path: String,
        /// The value.
        value: Ordered,
    },
    /// Removes a field or an item.
    Remove {
        /// The JSON pointer.
        path: String,
    },
}

impl Operation {
    /// Returns the parts of the pointer.
    pub(super) fn steps(&self) -> Vec<String> {
        let (Self::Add { path, .. } | Self::Replace { path, .. } | Self::Remove { path }) = self;
        path.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
    }
}
