//! Tiers. Calico's built-in tiers have a fixed order and default action (`libcalico-go/lib/resources/tier.go`).

use super::reader::{ASIDE_NOT, Reader};
use super::validity::is_label;
use super::{stored, wire};
use crate::dialect::{Manifest, ReadError};
use crate::model::{Body, Object, Path, Precedence, Tier};

/// The built-in tiers: name, order, and true if the default action is Deny.
const BUILT_IN: [(&str, f64, bool); 3] =
    [("default", 1_000_000.0, true), ("kube-admin", 1_000.0, false), ("kube-baseline", 10_000_000.0, false)];

/// Maximum length of the name of a tier, in characters.
const LONGEST_NAME: usize = 63;

pub(super) fn object(manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    let id = manifest.id()?;
    let mut reader = Reader { namespace: None, is_global: true, faults: Vec::new() };
    let spec: wire::Tier = manifest.strict_spec(&mut reader.faults)?;
    let path = Path::root().field("spec");
    if !id.name.is_empty() && (!is_label(&id.name) || id.name.len() > LONGEST_NAME) {
        let problem = format!("`{}` is not a valid tier name", id.name);
        let help = "use at most 63 lower-case letters, digits and `-`";
        reader.refuse(&Path::root().field("metadata").field("name"), &problem, ASIDE_NOT, help);
    }
    let action = path.field("defaultAction");
    let drops = match spec.default_action.as_deref() {
        None | Some("Deny") => true,
        Some("Pass") => false,
        Some(other) => {
            let problem = format!("`{other}` is neither Deny nor Pass");
            reader.refuse(&action, &problem, "Felix treats it as Deny", "write Deny or Pass");
            true
        }
    };
    if let Some((name, order, has_to_drop)) = BUILT_IN.iter().find(|(name, ..)| **name == *id.name) {
        if drops != *has_to_drop {
            let should = if *has_to_drop { "Deny" } else { "Pass" };
            let problem = format!("the default action of tier {name} is not {should}");
            reader.refuse(&action, &problem, ASIDE_NOT, &format!("write `defaultAction: {should}`"));
        }
        if spec.order != Some(*order) {
            let problem = format!("the order of tier {name} is not {order}");
            reader.refuse(&path.field("order"), &problem, ASIDE_NOT, &format!("write `order: {order}`"));
        }
    }
    let tier = Tier { order: spec.order.map(Precedence), drops };
    Ok(Object { id, body: Body::Tier(tier), faults: reader.faults, annotations: stored::annotations(manifest)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Origin;
    use serde_json::{Value, json};

    fn read(name: &str, spec: &Value) -> (Tier, Vec<String>) {
        let json = json!({"metadata": {"name": name}, "spec": spec}).to_string();
        let object = object(&Manifest::read("projectcalico.org/v3", "Tier", &json, Origin::Author).unwrap()).unwrap();
        let Body::Tier(tier) = object.body else { panic!("a tier") };
        (tier, object.faults.iter().map(|fault| fault.path.to_string()).collect())
    }

    #[test]
    fn a_tier_drops_unless_it_passes() {
        let tier = |order: Option<f64>, drops| (Tier { order: order.map(Precedence), drops }, Vec::new());
        assert_eq!(read("security", &json!({"order": 100})), tier(Some(100.0), true));
        assert_eq!(read("security", &json!({"order": -0.5, "defaultAction": "Pass"})), tier(Some(-0.5), false));
        assert_eq!(read("security", &json!({})), tier(None, true));
        assert_eq!(read("kube-admin", &json!({"order": 1000, "defaultAction": "Pass"})), tier(Some(1000.0), false));
    }

    #[test]
    fn what_calico_refuses_is_a_fault() {
        assert_eq!(
            read("default", &json!({"order": 5, "defaultAction": "Pass"})).1,
            ["spec.defaultAction", "spec.order"]
        );
        assert_eq!(read("a.b", &json!({"defaultAction": "Allow"})).1, ["metadata.name", "spec.defaultAction"]);
        assert_eq!(read("x", &json!({"orders": 1})).1, ["spec.orders"]);
    }
}
