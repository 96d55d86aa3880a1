//! The section on objects that an annotation exempts from rules.

use jiff::Timestamp;

use super::findings::Audited;
use super::report::{Item, Section};
use super::section::{Items, Question};
use crate::engine;
use crate::rules::RULES;
use crate::view::Site;

pub(super) fn exemptions<'a>(site: &Site, objects: impl IntoIterator<Item = Audited<'a>>, now: Timestamp) -> Section {
    let question = Question { id: "exemptions", title: "Exemptions from rules", is_finding: true };
    let mut items = Items::default();
    let annotation = site.exempt_annotation();
    for Audited { object, .. } in objects {
        if object.annotations.get(&annotation).is_none() {
            continue;
        }
        for rule in RULES {
            let message = match engine::exemption(site, object, rule.name, now) {
                None => continue,
                Some(Ok(exemption)) => {
                    let end = match exemption.until {
                        Some(until) => format!("until {until}"),
                        None => "without an end".to_owned(),
                    };
                    format!("exempt from {} {end}: {}", rule.name, exemption.reason)
                }
                Some(Err(why)) => format!("the exemption from {} is not valid: {why}", rule.name),
            };
            items.add(Item::of(object.id.to_string(), object.namespace(), message));
        }
    }
    items.section(&question, "Objects whose annotation exempts them from a rule.", None)
}
