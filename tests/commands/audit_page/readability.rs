//! Whether people can read and operate the page: names for screen readers, contrast, width, no JavaScript, no motion.

use std::path::Path;

use serde_json::{Value, json};

use super::{CLUSTER, Page, assert_no_sideways_scrolling, browser, cell, cell_of, opened};
use crate::support::browser::Browser;

/// Returns the nodes of the accessibility tree with these roles and without a name.
fn nameless(browser: &mut Browser) -> (usize, Vec<Value>) {
    const ROLES: [&str; 14] = [
        "button",
        "searchbox",
        "textbox",
        "combobox",
        "radio",
        "checkbox",
        "link",
        "gridcell",
        "columnheader",
        "rowheader",
        "dialog",
        "grid",
        "search",
        "navigation",
    ];
    browser.call("Accessibility.enable", &json!({}));
    let tree = browser.call("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array().unwrap().iter();
    let controls: Vec<&Value> = nodes
        .filter(|node| node["ignored"] != true && ROLES.iter().any(|role| node["role"]["value"] == *role))
        .collect();
    let nameless =
        controls.iter().filter(|node| node["name"]["value"].as_str().is_none_or(|name| name.trim().is_empty()));
    (controls.len(), nameless.map(|node| (*node).clone()).collect())
}

#[test]
fn every_control_has_a_name() {
    let Some((mut browser, _page)) = opened() else { return };
    let (count, without) = nameless(&mut browser);
    assert!(count > 80, "the matrix alone has more than {count} cells");
    assert!(without.is_empty(), "{without:#?}");
    browser.click(&cell(0, 1));
    browser.until("document.querySelector('dialog').open");
    let (_, without) = nameless(&mut browser);
    assert!(without.is_empty(), "{without:#?}");
    for landmark in ["header", "nav", "main"] {
        assert_eq!(
            browser.evaluate(&format!("document.querySelectorAll('{landmark}').length >= 1")),
            true,
            "{landmark}"
        );
    }
    let scopes = "[...document.querySelectorAll('th')].filter((head) => !['row', 'col'].includes(head.scope)).length";
    assert_eq!(browser.evaluate(scopes), 0);
}

/// Returns the texts whose contrast with what is behind them is below 4.5.
const FAINT_TEXTS: &str = "(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgb = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return { parts: [r, g, b], alpha: a / 255 };
    };
    const luminance = (parts) => {
        const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = parts.map((part) => linear(part / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const box = element.closest('svg .node')?.querySelector('rect');
        if (box) return rgb(getComputedStyle(box).fill).parts;
        for (let at = element; at; at = at.parentElement) {
            const { parts, alpha } = rgb(getComputedStyle(at).backgroundColor);
            if (alpha === 1) return parts;
            if (alpha > 0) throw new Error(`translucent background of ${at.className}`);
        }
        throw new Error('no background');
    };
    const faint = [];
    let count = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const text = walker.currentNode.data.trim();
        const unseen = element.closest('.unseen, script, noscript, title, option, :disabled');
        const isVisible = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
        if (text === '' || unseen || !isVisible) continue;
        const style = getComputedStyle(element);
        const front = rgb(element instanceof SVGElement ? style.fill : style.color).parts;
        const [dark, light] = [luminance(front), luminance(behind(element))].sort((one, other) => one - other);
        const ratio = (light + 0.05) / (dark + 0.05);
        count += 1;
        if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${element.className} ${text.slice(0, 40)}`);
    }
    return { count, faint };
})()";

#[test]
fn text_is_readable_in_both_themes() {
    let Some((mut browser, _page)) = opened() else { return };
    browser.evaluate("for (const part of document.querySelectorAll('details')) part.open = true");
    let ground = "getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    for theme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", theme);
        browser.click("input[value=auto]");
        for dialog in [false, true] {
            if dialog {
                browser.click(&cell_of("shop", "checkout"));
                browser.until("document.querySelector('dialog').open");
                browser.evaluate("for (const part of document.querySelectorAll('dialog details')) part.open = true");
            }
            let found = browser.evaluate(FAINT_TEXTS);
            assert!(found["count"].as_u64().unwrap() > 150, "{theme}: {found}");
            assert_eq!(found["faint"], json!([]), "{theme}");
        }
        browser.press("Escape", false);
        browser.until("!document.querySelector('dialog').open");
        grounds.push(browser.text(ground));
    }
    assert_ne!(grounds[0], grounds[1], "the system chooses the theme");
    // The switch overrides the system, which still says dark.
    browser.click("input[value=light]");
    assert_eq!(browser.text(ground), grounds[0]);
    browser.prefer("prefers-color-scheme", "light");
    browser.click("input[value=dark]");
    assert_eq!(browser.text(ground), grounds[1]);
    assert_eq!(browser.evaluate(FAINT_TEXTS)["faint"], json!([]));
}

#[test]
fn the_page_never_scrolls_sideways() {
    let Some((mut browser, _page)) = opened() else { return };
    browser.evaluate("for (const part of document.querySelectorAll('details')) part.open = true");
    assert_no_sideways_scrolling(&mut browser);
    browser.resize(400, 700);
    browser.click(&cell(0, 1));
    browser.until("document.querySelector('dialog').open");
    assert_eq!(browser.evaluate("document.querySelector('dialog').getBoundingClientRect().width <= 400"), true);
}

#[test]
fn without_javascript_the_lists_are_there() {
    let Some(mut browser) = browser() else { return };
    browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    let page = Page::of(Path::new(CLUSTER));
    browser.open(&page.path());
    for selector in [".big", ".findings > li", ".contracts > li", ".check", "#coverage tbody tr", "noscript p"] {
        browser.until(&format!("document.querySelector('{selector}')?.checkVisibility()"));
    }
    for selector in ["#explorer", "fieldset.theme", "#findings form", "#contracts form"] {
        browser.until(&format!("!document.querySelector('{selector}').checkVisibility()"));
    }
    browser.click(".check > summary");
    browser.until("document.querySelector('.check').open");
}

#[test]
fn motion_stops_on_request() {
    let Some((mut browser, _page)) = opened() else { return };
    browser.click(&cell(0, 1));
    browser.until("document.querySelector('dialog').open");
    let motion = "getComputedStyle(document.querySelector('dialog')).animationName";
    assert_eq!(browser.text(motion), "slide");
    browser.prefer("prefers-reduced-motion", "reduce");
    assert_eq!(browser.text(motion), "none");
    assert_eq!(browser.text("getComputedStyle(document.documentElement).scrollBehavior"), "auto");
}

#[test]
fn what_was_not_read_comes_first() {
    let Some(mut browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    std::fs::write(&file, "kind: [").unwrap();
    let page = Page::of(&file);
    browser.open(&page.path());
    let alert = browser.text("document.querySelector('main > h1 + .alert').textContent");
    assert!(alert.contains("broken.yaml"), "{alert}");
    assert_eq!(browser.text("document.querySelector('.big').textContent"), "–");
    let unchecked = "[...document.querySelectorAll('.check > summary')]
        .filter((check) => check.querySelector('.tally').textContent === '0 of 0')
        .map((check) => check.querySelector('.state').textContent)";
    browser.until(&format!("{unchecked}.length > 0 && {unchecked}.every((state) => state === 'no objects')"));
}
