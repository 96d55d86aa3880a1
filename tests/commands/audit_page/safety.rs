//! The page sends nothing, and what users wrote stays text.

use serde_json::{Value, json};

use super::{Page, assert_no_sideways_scrolling, browser, cell, namespace, opened};

/// A name that breaks out of every context that it is not escaped for.
const HOSTILE: &str = "</script><img src=x onerror=window.broken=1>\"'`&<!--";

#[test]
fn the_page_sends_nothing_and_has_no_errors() {
    let Some((mut browser, page)) = opened() else { return };
    browser.click(&cell(0, 1));
    browser.until("document.querySelector('dialog').open");
    browser.press("Escape", false);
    browser.click("input[value=dark]");
    browser.click("input[value=workloads]");
    browser.until("document.querySelector('#matrix-scroll th[scope=row]').textContent.includes('/')");
    browser.fill("#findings input[type=search]", "dns");
    browser.evaluate("new Promise((done) => setTimeout(done, 300))");
    assert_eq!(browser.requests(), [format!("file://{}", page.path().display())]);
    assert!(browser.problems().is_empty(), "{:#?}", browser.problems());
}

#[test]
fn a_script_that_got_in_could_not_send_anything() {
    let Some((mut browser, _page)) = opened() else { return };
    browser.evaluate(
        "window.violations = [];
         document.addEventListener('securitypolicyviolation', (event) => violations.push(event.effectiveDirective))",
    );
    browser.evaluate("fetch('http://127.0.0.1:9/').catch(() => {}).then(() => true)");
    browser.evaluate(
        "(() => {
            const script = document.createElement('script');
            script.append('window.broken = 1');
            const image = document.createElement('img');
            image.src = 'http://127.0.0.1:9/';
            const style = document.createElement('style');
            style.append('body { color: red }');
            const form = document.createElement('form');
            form.action = 'http://127.0.0.1:9/';
            document.body.append(script, image, style, form);
            form.submit();
        })()",
    );
    for directive in ["connect-src", "img-src", "style-src-elem", "form-action", "require-trusted-types-for"] {
        browser.until(&format!("window.violations.includes('{directive}')"));
    }
    let markup =
        "(() => { try { document.body.innerHTML = '<b>'; return ''; } catch (error) { return error.name; } })()";
    assert_eq!(browser.text(markup), "TypeError");
    assert_eq!(browser.evaluate("window.broken === undefined"), true);
}

#[test]
fn hostile_names_are_text() {
    let Some(mut browser) = browser() else { return };
    let long = "a".repeat(300);
    let mut objects: Vec<Value> =
        [HOSTILE, "{{style}}", &long].iter().flat_map(|name| namespace(name, HOSTILE, false)).collect();
    let connections = json!({"from": [{"namespaces": ["shop"]}], "to": [{"entity": "Internet"}]});
    objects.push(json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "Contract", "metadata": {"name": HOSTILE},
        "spec": {"mustNotReach": connections, "reason": HOSTILE, "owner": long}}));
    let page = Page::over("hostile", &objects);
    browser.open(&page.path());
    assert!(browser.problems().is_empty(), "{:#?}", browser.problems());
    let heads = "[...document.querySelectorAll('#matrix-scroll th[scope=row]')].map((head) => head.textContent)";
    browser.until(&format!("{heads}.includes({})", json!(HOSTILE)));
    browser.until(&format!("document.querySelector('#coverage table').textContent.includes({})", json!(HOSTILE)));
    browser.until(&format!(
        "document.querySelector('.contracts .help:nth-last-child(2)').textContent.includes({})",
        json!(HOSTILE)
    ));
    browser.click("#matrix-scroll [role=gridcell]");
    browser.until("document.querySelector('dialog').open");
    browser.click("#detail-body > button");
    browser.evaluate("for (const part of document.querySelectorAll('details')) part.open = true");
    browser.evaluate("new Promise((done) => setTimeout(done, 300))");
    assert_eq!(browser.evaluate("document.images.length"), 0);
    assert_eq!(browser.evaluate("document.scripts.length"), 2);
    assert_eq!(browser.evaluate("window.broken === undefined"), true);
    browser.click("input[value=namespaces]");
    assert_no_sideways_scrolling(&mut browser);
}
