//! Translated pages. The first line names the English page and the Git hash of its content that was translated:
//! `<!-- docs/concepts/outage.md bf15a5cc… -->`. A page whose source has changed since then carries a notice.

use std::process::Command;

use crate::page::{Page, exclusive, pages, root};

/// The start of the notice, in the language of the pages.
const NOTICE: &str = "> 英文页面在翻译之后有改动，以英文页面为准：";

/// Returns the English page, and the hash of the content that was translated.
fn source(page: &Page) -> (String, String) {
    let first = page.text.lines().next().unwrap_or_default();
    let named = first.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
    let Some((path, hash)) = named.and_then(|named| named.split_once(' ')) else {
        panic!("{}: the first line has to be `<!-- PAGE HASH -->`", page.path.display());
    };
    (path.to_owned(), hash.to_owned())
}

fn hash(path: &str) -> String {
    let output = Command::new("git").args(["hash-object", "--no-filters", path]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn an_outdated_translation_says_so() {
    let _guard = exclusive();
    let mut wrong = Vec::new();
    let translations = pages("docs/zh");
    assert!(translations.len() > 10, "only {} translations were found", translations.len());
    for mut page in translations {
        let (path, translated) = source(&page);
        let up = "../".repeat(page.path.components().count() - 1);
        let notice = format!("\n{NOTICE}[{path}]({up}{path})\n");
        let (is_outdated, says_so) = (hash(&path) != translated, page.text.contains(NOTICE));
        if is_outdated == says_so {
            continue;
        }
        wrong.push(page.path.display().to_string());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let end = page.text.find('\n').unwrap() + 1;
            if is_outdated {
                page.text.insert_str(end, &notice);
            } else {
                page.text = page.text.replacen(&notice, "", 1);
            }
            page.write();
        }
    }
    assert!(
        wrong.is_empty() || std::env::var_os("UPDATE_DOCS").is_some(),
        "the notice of outdated translations is missing or unnecessary: {wrong:?}\n\
         set it with: UPDATE_DOCS=1 cargo test --test book"
    );
}
