//! Alerts and their runbooks.

use std::collections::BTreeSet;

use portcullis::yaml;

use crate::page::Page;

const RUNBOOK: &str = "docs/runbooks/alerts.md";

#[test]
fn every_alert_leads_to_its_runbook() {
    let text = Page::read("deploy/alerts/portcullis.rules").text;
    let rules = yaml::read_each(&text).remove(0).unwrap().value;
    let page = Page::read(RUNBOOK);
    let anchors = page.anchors();
    let mut alerts = BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let Some(alert) = rule["alert"].as_str() else { continue };
        let anchor = alert.to_lowercase();
        assert_eq!(
            rule["annotations"]["runbook_url"].as_str(),
            Some(format!("{RUNBOOK}#{anchor}").as_str()),
            "annotation runbook_url of {alert}"
        );
        assert!(anchors.contains(&anchor), "{RUNBOOK} has no heading `{alert}`");
        alerts.insert(alert.to_owned());
    }
    assert!(alerts.len() > 10, "only {alerts:?} were found");
    for heading in page.headings().into_iter().filter(|heading| heading.starts_with("Portcullis")) {
        assert!(alerts.contains(&heading), "{RUNBOOK}: alert {heading} does not exist");
    }
}
