//! Builds a section: an exact count, and a bounded list of what was counted.

use super::report::{Item, Section};
use crate::model::Path;

/// Maximum number of items of a section.
const MAX_ITEMS: usize = 1_000;

/// The description of a section.
pub(super) struct Question {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) is_finding: bool,
}

/// The items of a section, so far.
#[derive(Default)]
pub(super) struct Items {
    count: usize,
    kept: Vec<Item>,
    omitted: usize,
}

impl Items {
    pub(super) fn add(&mut self, item: Item) {
        self.count += item.counted;
        if self.kept.len() < MAX_ITEMS {
            self.kept.push(item);
        } else {
            self.omitted += 1;
        }
    }

    pub(super) fn section(self, question: &Question, summary: impl Into<String>, of: Option<usize>) -> Section {
        let Question { id, title, is_finding } = *question;
        let Self { count, kept: items, omitted } = self;
        Section { id, title, summary: summary.into(), is_finding, count, of, items, omitted, unanswered: None }
    }
}

impl Item {
    /// An item that counts as one.
    pub(super) fn of(object: impl Into<String>, namespace: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            object: object.into(),
            namespace: namespace.map(str::to_owned),
            path: None,
            message: message.into(),
            help: None,
            counted: 1,
        }
    }

    pub(super) fn at(self, path: &Path) -> Self {
        let path = path.to_string();
        Self { path: (!path.is_empty()).then_some(path), ..self }
    }

    pub(super) fn helped(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    pub(super) fn counting(self, counted: usize) -> Self {
        Self { counted, ..self }
    }
}
