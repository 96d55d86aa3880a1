//! Filters, the matrix and its keys, the dialog, and pages of a large cluster.

use serde_json::{Value, json};

use super::{CLUSTER, Page, assert_no_sideways_scrolling, browser, cell, cell_of, focused_label, namespace, opened};
use crate::support::browser::Browser;
use crate::support::command::run;

#[test]
fn filters_narrow_the_rows() {
    let Some((mut browser, _page)) = opened() else { return };
    let rows = "[...document.querySelectorAll('#matrix-scroll th[scope=row]')].map((head) => head.textContent).join()";
    let all = browser.text(rows);
    assert!(all.split(',').count() > 4 && all.contains("shop"), "{all}");
    browser.fill("#filter-from", "SHOP");
    browser.until(&format!("{rows} === 'shop'"));
    browser.fill("#filter-to", "check");
    browser.until("document.querySelectorAll('#matrix-scroll td[role=gridcell]').length === 1");
    browser.fill("#filter-from", "no such name");
    browser.until("document.querySelector('#matrix-scroll').textContent.includes('No namespace matches')");
    browser.click("#explorer button[type=reset]");
    browser.until(&format!("{rows} === {}", json!(all)));

    let shown = "[...document.querySelectorAll('.findings > li')].filter((item) => !item.hidden)";
    let total = browser.evaluate(&format!("{shown}.length")).as_u64().unwrap();
    let rule = browser.text("document.querySelector('.findings > li').dataset.rule");
    browser.evaluate(&format!(
        "(() => {{
            const rules = document.querySelector('select[name=rule]');
            rules.value = {};
            rules.dispatchEvent(new Event('input', {{ bubbles: true }}));
        }})()",
        json!(rule)
    ));
    browser
        .until(&format!("{shown}.length < {total} && {shown}.every((item) => item.dataset.rule === {})", json!(rule)));
    browser.click("#findings button[type=reset]");
    browser.until(&format!("{shown}.length === {total}"));
    browser.click("#findings input[value=deny]");
    browser.until(&format!("{shown}.length < {total} && {shown}.every((item) => item.dataset.action !== 'deny')"));
    browser.click("#findings button[type=reset]");
    browser.fill("#findings input[type=search]", "kafka dns");
    browser.until(&format!("{shown}.length > 0 && {shown}.length < {total}"));
    browser
        .until(&format!("{shown}.every((item) => /kafka/i.test(item.textContent) && /dns/i.test(item.textContent))"));
    let count = browser.text("document.querySelector('#findings .list > .note').textContent");
    assert!(count.contains(&format!("that match, of {total}")), "{count}");
}

#[test]
fn contracts_come_with_the_broken_ones_first() {
    let Some((mut browser, _page)) = opened() else { return };
    let shown = "[...document.querySelectorAll('#contracts .contracts > li')].filter((item) => !item.hidden)";
    let results = format!("{shown}.map((item) => item.dataset.action).join()");
    assert_eq!(browser.text(&results), "broken,undecided,holds,holds");
    assert_eq!(browser.text("document.querySelector('nav a[href=\"#contracts\"] .count').textContent"), "2");

    // The words are those of `portcullis test`.
    let tested = run(&["test", "--output", "json", CLUSTER], "");
    let tested: Value = serde_json::from_str(&tested.out).unwrap();
    for contract in tested["contracts"].as_array().unwrap() {
        let item = format!(
            "{shown}.find((item) => item.querySelector('.head code').textContent === {}).textContent",
            contract["name"]
        );
        let text = browser.text(&item);
        let lists = ["because", "notes"].into_iter().flat_map(|name| contract[name].as_array().into_iter().flatten());
        let fields = ["statement", "detail", "reason", "owner"].map(|name| &contract[name]);
        for line in fields.into_iter().chain(lists).filter_map(Value::as_str) {
            assert!(text.contains(&line.replace('`', "")), "{line}\n{text}");
        }
    }

    browser.click("#contracts input[value=holds]");
    browser.until(&format!("{results} === 'broken,undecided'"));
    browser.fill("#contracts input[type=search]", "team-payments");
    browser.until(&format!("{results} === 'broken'"));
    let count = browser.text("document.querySelector('#contracts .list > .note').textContent");
    assert_eq!(count, "Showing 1 contracts that match, of 4");
    browser.click("#contracts button[type=reset]");
    browser.until(&format!("{results} === 'broken,undecided,holds,holds'"));
    browser.evaluate("location.hash = '#check-broken-contracts'");
    browser.until("document.querySelector('#check-broken-contracts').open");
    let tally = browser.text("document.querySelector('#check-broken-contracts .tally').textContent");
    assert_eq!(tally, "1 of 4");
}

#[test]
fn a_cell_opens_the_policies_that_decide() {
    let Some((mut browser, _page)) = opened() else { return };
    browser.click(&cell_of("shop", "checkout"));
    browser.until("document.querySelector('dialog').open");
    assert_eq!(browser.text("document.querySelector('#detail-title').textContent"), "shop to checkout");
    let pairs = browser.text("document.querySelector('#detail-body h3').textContent");
    assert_eq!(pairs, "1 of 12 pairs of workloads connect");
    browser.click("#detail-body > button");
    browser.until("!document.querySelector('dialog').open");
    browser.until("document.querySelectorAll('#matrix-scroll td[role=gridcell]').length === 12");

    browser.click(&cell_of("shop/deployment/web", "checkout/deployment/cart"));
    browser.until("document.querySelector('dialog').open");
    let allowed = browser.text("document.querySelector('#detail-body').textContent");
    browser.click("#detail-close");
    browser.click(&cell_of("shop/deployment/search", "checkout/deployment/cart"));
    browser.until("document.querySelector('dialog').open");
    let blocked = browser.text("document.querySelector('#detail-body').textContent");

    // The reasons are those that `trace` prints.
    for (text, from, verdict) in
        [(&allowed, "shop/deployment/web", "allowed"), (&blocked, "shop/deployment/search", "blocked")]
    {
        assert!(text.contains(verdict), "{text}");
        assert!(text.contains(&format!("portcullis trace --from {from} --to checkout/deployment/cart")), "{text}");
        let trace =
            run(&["trace", "--from", from, "--to", "checkout/deployment/cart:8080", "--output", "json", CLUSTER], "");
        let trace: Value = serde_json::from_str(&trace.out).unwrap();
        let reason = trace["flows"][0]["ingress"]["reason"].as_str().unwrap();
        assert!(text.contains(reason), "{reason}\n{text}");
    }
}

#[test]
fn keys_move_the_focus_in_the_grid() {
    let Some((mut browser, _page)) = opened() else { return };
    let stops = "document.querySelectorAll('#matrix-scroll [tabindex=\"0\"]').length";
    assert_eq!(browser.evaluate(stops), 1);
    browser.evaluate("document.querySelector('#explorer button[type=reset]').focus()");
    // The scroll area itself may be a stop of its own.
    for _ in 0..3 {
        browser.press("Tab", false);
        if focused_label(&mut browser).contains(" to ") {
            break;
        }
    }
    let name = |browser: &mut Browser, axis: &str, position: usize| {
        browser.text(&format!("document.querySelectorAll('#matrix-scroll th[scope={axis}]')[{position}].textContent"))
    };
    let names: Vec<String> = (0..3).map(|position| name(&mut browser, "row", position)).collect();
    let last = browser.text("[...document.querySelectorAll('#matrix-scroll th[scope=row]')].at(-1).textContent");
    let steps = [
        ("ArrowRight", false, &names[0], &names[1]),
        ("ArrowDown", false, &names[1], &names[1]),
        ("ArrowDown", false, &names[2], &names[1]),
        ("ArrowLeft", false, &names[2], &names[0]),
        ("ArrowUp", false, &names[1], &names[0]),
        ("End", false, &names[1], &last),
        ("Home", false, &names[1], &names[0]),
        ("End", true, &last, &last),
        ("ArrowDown", false, &last, &last),
        ("Home", true, &names[0], &names[0]),
    ];
    for (key, control, from, to) in steps {
        browser.press(key, control);
        let label = focused_label(&mut browser);
        assert!(label.starts_with(&format!("{from} to {to}: ")), "{key}: {label}, not {from} to {to}");
        assert_eq!(browser.evaluate(stops), 1, "{key}");
    }
    let outline = browser.text("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus is visible");
    browser.press("Enter", false);
    browser.until("document.querySelector('dialog').open");
    browser.press("Escape", false);
    browser.until("!document.querySelector('dialog').open");
    assert!(focused_label(&mut browser).starts_with(&format!("{0} to {0}: ", names[0])), "the focus returns");
}

#[test]
fn a_thousand_namespaces_come_in_pages() {
    let Some(mut browser) = browser() else { return };
    let numbers = 0..1000;
    let objects: Vec<Value> =
        numbers.flat_map(|number| namespace(&format!("team-{number:04}"), "any", number % 2 == 0)).collect();
    let page = Page::over("large", &objects);
    browser.open(&page.path());
    browser.until("document.querySelectorAll('#matrix-scroll [role=gridcell]').length === 2500");
    let pager = "document.querySelector('#matrix-pager').textContent";
    browser.until(&format!("{pager}.includes('Rows: showing 1–50 of 1,000')"));
    let first = "document.querySelector('#matrix-scroll th[scope=row]').textContent";
    let zeroth = browser.text(first);
    browser.click("#matrix-pager [aria-label='Next rows']");
    browser.until(&format!("{pager}.includes('Rows: showing 51–100 of 1,000') && {first} !== {}", json!(zeroth)));
    browser.click("#matrix-pager [aria-label='Previous rows']");
    browser.until(&format!("{first} === {}", json!(zeroth)));
    // Keys go on to the next page.
    browser.click(&cell(49, 0));
    browser.until("document.querySelector('dialog').open");
    browser.press("Escape", false);
    browser.until("!document.querySelector('dialog').open");
    browser.press("ArrowDown", false);
    browser.until(&format!("{pager}.includes('Rows: showing 51–100 of 1,000')"));
    browser.until("document.activeElement.matches(\"[data-row='0'][data-column='0']\")");

    browser.fill("#filter-from", "team-0077");
    browser.until(&format!(
        "document.querySelectorAll('#matrix-scroll th[scope=row]').length === 1 && {first}.includes('team-0077')"
    ));
    let nodes = browser.evaluate("document.querySelectorAll('#graph-scroll .node').length").as_u64().unwrap();
    assert_eq!(nodes, 30, "the graph is bounded");
    let rows = "[...document.querySelectorAll('#coverage tbody tr')].filter((row) => !row.hidden).length";
    assert_eq!(browser.evaluate(rows), 50);
    browser.fill("#coverage input[type=search]", "team-0123");
    browser.until(&format!("{rows} === 1"));
    assert_no_sideways_scrolling(&mut browser);
}
