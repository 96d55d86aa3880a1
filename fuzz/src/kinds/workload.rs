//! Pods, and the kinds that make them.

use super::{METADATA, PORT};
use crate::grammar::Shape::{self, Flag, List, Object, Text};
use crate::grammar::VALUES;

pub(super) const POD: &Shape = &Object(&[
    ("hostNetwork", &Flag),
    ("serviceAccountName", &Text(VALUES)),
    ("serviceAccount", &Text(VALUES)),
    ("nodeName", &Text(VALUES)),
    ("schedulingGates", &List(&Object(&[("name", &Text(&["network-policy.portcullis.dev/baseline", "g%"]))]))),
    ("containers", CONTAINERS),
    ("initContainers", CONTAINERS),
]);
const CONTAINERS: &Shape = &List(&Object(&[
    ("name", &Text(&["c%"])),
    ("ports", &List(&Object(&[("name", &Text(&["http", "metrics", "p%"])), ("containerPort", PORT)]))),
]));
pub(super) const TEMPLATE: &Shape = &Object(&[("metadata", METADATA), ("spec", POD)]);
pub(super) const CONTROLLER: &Shape = &Object(&[("template", TEMPLATE)]);
