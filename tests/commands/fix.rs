//! `portcullis check --fix`: what is edited, what is kept, and what is not touched.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use crate::layout::Layout;
use crate::oracle::World;
use crate::oracle::generate::{assemble, calico_policy, cilium_policy, cluster_policy, kubernetes_policy};
use crate::shipped::CONFIGURATION;
use crate::support::command::{Done, finish, run};
use crate::support::golden;
use crate::support::server::portcullis;
use portcullis::dialect::{self, Manifest, Origin};
use portcullis::engine::judge;
use portcullis::rules::{Change, Occasion};
use portcullis::view::View;
use portcullis::yaml::{Operation, edit, read_each};
use proptest::prelude::*;
use serde_json::{Value, json};

fn operations(patch: &Value) -> Vec<Operation> {
    serde_json::from_str(&patch.to_string()).unwrap()
}

/// Applies a patch to the text of one document.
fn edited(text: &str, patch: &Value) -> Result<String, String> {
    let before = read_each(text).remove(0).unwrap().value;
    let expected = patched(&before, patch);
    edit(text, 0, None, &operations(patch), &expected).map_err(|error| error.to_string())
}

fn patched(before: &Value, patch: &Value) -> Value {
    let mut value = before.clone();
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
    json_patch::patch(&mut value, &patch).unwrap();
    value
}

fn add(path: &str, value: &Value) -> Value {
    json!([{"op": "add", "path": path, "value": value}])
}

fn remove(path: &str) -> Value {
    json!([{"op": "remove", "path": path}])
}

#[test]
fn fields_are_added_in_the_style_of_their_map() {
    for (before, path, value, after) in [
        ("a: 1\n", "/b", json!(2), "a: 1\nb: 2\n"),
        ("a: 1", "/b", json!(2), "a: 1\nb: 2"),
        ("a: 1 # one\n\n# end\n", "/b", json!(2), "a: 1 # one\nb: 2\n\n# end\n"),
        ("a: 1\r\n", "/b", json!({"c": "d"}), "a: 1\r\nb:\r\n  c: d\r\n"),
        ("s:\n    a: 1\n", "/s/b", json!([{"c": 1, "d": 2}]), "s:\n    a: 1\n    b:\n    - c: 1\n      d: 2\n"),
        ("s:\n  l:\n    - 1\n", "/s/b", json!(["x"]), "s:\n  l:\n    - 1\n  b:\n    - x\n"),
        ("- a: 1\n  c:\n- x\n", "/0/b", json!("y"), "- a: 1\n  c:\n  b: \"y\"\n- x\n"),
        ("-\n  a: 1\n", "/0/b", json!(true), "-\n  a: 1\n  b: true\n"),
        ("s: {a: 1} # s\n", "/s/b", json!({"c": ["d e"]}), "s: {a: 1, b: {c: [\"d e\"]}} # s\n"),
        ("s: {}\n", "/s/b", json!(1), "s: {b: 1}\n"),
        ("s: {\n  a: 1, # one\n  }\n", "/s/b", json!(2), "s: {\n  a: 1,\n  b: 2, # one\n  }\n"),
        ("s: {a: 1,}\n", "/s/b", json!(2), "s: {a: 1, b: 2,}\n"),
        ("a: |\n  text\n\nz: 1\n", "/b", json!(2), "a: |\n  text\n\nz: 1\nb: 2\n"),
        ("s:\n  a: |\n    text\n\nz: 1\n", "/s/b", json!(2), "s:\n  a: |\n    text\n  b: 2\n\nz: 1\n"),
        ("s: &x\n  a: 1\nt: 2\n", "/u", json!(2), "s: &x\n  a: 1\nt: 2\nu: 2\n"),
        ("\u{feff}a: é # ü\n", "/b", json!("ö"), "\u{feff}a: é # ü\nb: \"ö\"\n"),
        ("{\"a\": 1}", "/b", json!({"c": 2}), "{\"a\": 1, \"b\": {\"c\": 2}}"),
        (
            "{\n\t\"a\": {\n\t\t\"b\": 1\n\t}\n}\n",
            "/a/c",
            json!([1]),
            "{\n\t\"a\": {\n\t\t\"b\": 1,\n\t\t\"c\": [\n\t\t\t1\n\t\t]\n\t}\n}\n",
        ),
    ] {
        assert_eq!(edited(before, &add(path, &value)).as_deref(), Ok(after), "{before:?} {path}");
    }
}

#[test]
fn values_are_replaced_and_comments_stay() {
    for (before, path, value, after) in [
        ("a: 1 # one\n", "/a", json!(2), "a: 2 # one\n"),
        ("a: # none\nb: 1\n", "/a", json!(2), "a: 2 # none\nb: 1\n"),
        ("a:\n", "/a", json!({}), "a: {}\n"),
        ("a: [] # none\nb: 1\n", "/a", json!(["x"]), "a: # none\n- x\nb: 1\n"),
        ("a: # none\n", "/a", json!({"b": 1}), "a: # none\n  b: 1\n"),
        ("a:\n  b: 1\n  c: 2\nd: 3\n", "/a", json!({"e": 1}), "a:\n  e: 1\nd: 3\n"),
        ("a:\n  b: 1\nd: 3\n", "/a", json!([]), "a: []\nd: 3\n"),
        ("s: {a: [1, 2], b: c}\n", "/s/a", json!([3]), "s: {a: [3], b: c}\n"),
        ("a: 'x\n  y'\nb: 1\n", "/a", json!("z-"), "a: z-\nb: 1\n"),
    ] {
        let replaced = edited(before, &add(path, &value)).map(|text| text.replace("  \n", "\n").replace(": \n", ":\n"));
        assert_eq!(replaced.as_deref(), Ok(after), "{before:?} {path}");
    }
}

#[test]
fn items_are_inserted_between_their_neighbours() {
    let item = json!({"a": 1, "b": [2]});
    for (before, path, value, after) in [
        ("l:\n- 1 # one\n# end\nm: 1\n", "/l/-", &item, "l:\n- 1 # one\n- a: 1\n  b:\n  - 2\n# end\nm: 1\n"),
        ("l:\n  - x: 1\n    # of x\n    y: 2\n", "/l/1", &json!(3), "l:\n  - x: 1\n    # of x\n    y: 2\n  - 3\n"),
        ("l: # list\n  # first\n  - 1\n", "/l/0", &json!(0), "l: # list\n  - 0\n  # first\n  - 1\n"),
        ("l:\n- 1\n# two\n- 2\n", "/l/1", &json!("x"), "l:\n- 1\n- x\n# two\n- 2\n"),
        ("l:\n- \n- 2\n", "/l/1", &json!("x"), "l:\n- \n- x\n- 2\n"),
        ("l: [1, 2]\n", "/l/-", &item, "l: [1, 2, {a: 1, b: [2]}]\n"),
        ("l: [1, 2]\n", "/l/0", &json!("x"), "l: [x, 1, 2]\n"),
        ("l: [\n  1,\n  2, # two\n]\n", "/l/1", &json!(3), "l: [\n  1,\n  3,\n  2, # two\n]\n"),
        ("l: []\n", "/l/-", &item, "l: [{a: 1, b: [2]}]\n"),
        ("[1]", "/-", &json!("x"), "[1, \"x\"]"),
        (
            "{\"l\": [\n  {\n    \"a\": 1\n  }\n]}",
            "/l/-",
            &json!({"b": 2}),
            "{\"l\": [\n  {\n    \"a\": 1\n  },\n  {\n    \"b\": 2\n  }\n]}",
        ),
    ] {
        assert_eq!(edited(before, &add(path, value)).as_deref(), Ok(after), "{before:?} {path}");
    }
}

#[test]
fn parts_are_removed_with_their_lines() {
    for (before, path, after) in [
        ("a: 1\nb: 2\n", "/a", "b: 2\n"),
        ("a: 1\n# of b\nb:\n  c: 1\n\nd: 2\n", "/b", "a: 1\n# of b\n\nd: 2\n"),
        ("a: 1\nb: 2", "/b", "a: 1\n"),
        ("- a: 1\n  b: 2\n", "/0/a", "- b: 2\n"),
        ("- a: 1\n- b: 2\n", "/0", "- b: 2\n"),
        ("l:\n  - a: 1\n    b: 2\n  -\n    c: 1\nm: 1\n", "/l/1", "l:\n  - a: 1\n    b: 2\nm: 1\n"),
        ("l:\n  - 1\nm: 1\n", "/l/0", "l:\n  []\nm: 1\n"),
        ("a:\n  b: 1\n", "/a/b", "a:\n  {}\n"),
        ("s: {a: 1, b: 2, c: 3}\n", "/s/a", "s: {b: 2, c: 3}\n"),
        ("s: {a: 1, b: 2, c: 3}\n", "/s/b", "s: {a: 1, c: 3}\n"),
        ("s: {a: 1}\n", "/s/a", "s: {}\n"),
        ("[1, 2]", "/1", "[1]"),
    ] {
        assert_eq!(edited(before, &remove(path)).as_deref(), Ok(after), "{before:?} {path}");
    }
    let rename = json!([{"op": "remove", "path": "/l/0/a"}, {"op": "add", "path": "/l/0/b", "value": {"c": 1}}]);
    assert_eq!(edited("l:\n- a: 1\n", &rename).as_deref(), Ok("l:\n- b:\n    c: 1\n"));
}

#[test]
fn parts_that_cannot_be_edited_without_loss_are_refused() {
    for (before, patch, why) in [
        ("a: &x {b: 1}\nc: *x\n", add("/a/d", &json!(1)), "a part to edit has an anchor"),
        ("a: &x {b: 1}\nc: *x\n", add("/c/d", &json!(1)), "a part to edit has an alias"),
        ("a: &x 1\n", add("/a", &json!(2)), "a part to edit has an anchor"),
        ("a: !!str 1\n", add("/a", &json!(2)), "a part to edit has a tag"),
        ("x: &x {b: {c: 1}}\na: {<<: *x}\n", add("/a/b/d", &json!(1)), "`b` is not written in this document"),
        ("a: |\n  b\n", add("/a", &json!(2)), "the value of `a` is a block scalar"),
        ("a: 1 # why\nb: 2\n", remove("/a"), "the edit would delete a comment: `a: 1 # why`"),
        ("a:\n  # why\n  b: 1\n", add("/a", &json!(2)), "the edit would delete a comment: `# why`"),
        ("- - 1\n", add("/0/0", &json!(2)), "the list starts on the line of another list"),
        ("a: 1\n...\n", add("", &json!(2)), "the patch replaces the document"),
    ] {
        assert_eq!(edited(before, &patch), Err(why.to_owned()), "{before:?}");
    }
    // The patch is right, and the value that is asked for is another one.
    let wrong = edit("a: 1\n", 0, None, &operations(&add("/b", &json!(1))), &json!({"a": 1})).unwrap_err();
    assert_eq!(wrong.to_string(), "the edited text does not have the expected value; edit it by hand");
}

/// A policy of any dialect, valid in the eyes of its agent.
fn policy() -> impl Strategy<Value = Value> {
    prop_oneof![kubernetes_policy(), cilium_policy(), calico_policy(), cluster_policy()].prop_map(|manifest| {
        let world =
            World { namespaces: BTreeMap::from([("a".into(), BTreeMap::new())]), pods: vec![], manifests: vec![] };
        assemble(world, vec![manifest]).manifests.remove(0)
    })
}

/// The JSON patches that the findings of a manifest offer.
fn patches(manifest: &Value) -> Vec<Value> {
    let json = manifest.to_string();
    let (api_version, kind) = (manifest["apiVersion"].as_str().unwrap(), manifest["kind"].as_str().unwrap());
    let read = Manifest::read(api_version, kind, &json, Origin::Author).unwrap();
    let object = dialect::read(&read).unwrap().unwrap();
    let change = Change::Write { new: &object, old: None };
    let judgements = judge(&CONFIGURATION, &View::default(), change, Occasion::default()).judgements;
    let fixes = judgements.iter().filter_map(|judgement| judgement.finding.fix.as_ref());
    fixes.filter_map(|fix| dialect::fix(fix, &read)).map(|patch| json!(patch)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500)
    ))]

    /// In every layout the edited text is the patched object, and all comments are still there.
    #[test]
    fn an_edit_is_what_the_patch_is(manifest in policy(), choices in prop::collection::vec(any::<u8>(), 40..200)) {
        let read = |text: &str| -> Vec<Value> {
            let documents = read_each(text).into_iter().flat_map(|document| document.unwrap().items());
            documents.map(|document| document.value).collect()
        };
        let mut layout = Layout::new(choices);
        let (text, number, item) = layout.file(&manifest);
        let before = read(&text);
        let at = number + item.unwrap_or_default();
        prop_assert_eq!(&before[at], &read(&manifest.to_string())[0], "the layout is wrong: {}", text);
        for patch in patches(&before[at]) {
            let expected = patched(&before[at], &patch);
            match edit(&text, number, item, &operations(&patch), &expected) {
                Ok(edited) => {
                    let mut wanted = before.clone();
                    wanted[at] = expected;
                    prop_assert_eq!(read(&edited), wanted, "{}\n{}", text, edited);
                    for comment in text.split_whitespace().filter(|word| word.starts_with("comment-")) {
                        prop_assert!(edited.contains(comment), "{comment} is gone: {edited}");
                    }
                    prop_assert_eq!(text.contains("\r\n"), edited.contains("\r\n"));
                    prop_assert_eq!(edited.matches("\r\n").count() == edited.matches('\n').count(), text.matches("\r\n").count() == text.matches('\n').count());
                }
                Err(error) => {
                    let is_comment = error.to_string().contains("would delete a comment");
                    prop_assert!(layout.has_comments && is_comment, "{error}: {patch}\n{text}");
                }
            }
        }
    }
}

/// A folder with a file, on which `check --fix` runs.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(name: &str, text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path(name), text).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `check --fix` on a file. The folder is left out of the output.
    fn fix(&self, name: &str) -> Done {
        let done = run(&["check", "--fix", self.path(name).to_str().unwrap()], "");
        let folder = format!("{}/", self.0.path().display());
        Done { out: done.out.replace(&folder, ""), err: done.err.replace(&folder, ""), ..done }
    }
}

/// Each folder below `tests/fix` has a manifest, the manifest after `--fix`, and the output. `UPDATE_GOLDEN=1` writes
/// the last two.
#[test]
fn files_are_fixed_in_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fix");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 8);
    for case in cases {
        let before =
            ["before.yaml", "before.json"].iter().map(|name| case.join(name)).find(|path| path.exists()).unwrap();
        let name = format!("policy.{}", before.extension().unwrap().to_str().unwrap());
        let text = fs::read_to_string(&before).unwrap();
        let dir = Folder::new(&name, &text);
        let done = dir.fix(&name);
        assert_eq!(done.err, "", "{}", case.display());
        let found = [("output.txt", done.out), (&*name.replace("policy", "after"), dir.read(&name))];
        for (name, found) in found {
            assert_eq!(golden::compare(&case.join(name), &found), Ok(()));
        }
        // A second run has nothing left to do.
        let again = dir.fix(&name);
        assert!(!again.out.contains("\nfixed["), "{}: {}", case.display(), again.out);
    }
}

const DENY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop} # ours
spec:
  podSelector: {}
  policyTypes: [Egress]
";

#[test]
fn standard_input_is_printed_with_its_fixes() {
    let done = run(&["check", "--fix", "-"], DENY);
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    assert!(done.out.starts_with(DENY), "{}", done.out);
    assert!(done.out.ends_with("          k8s-app: kube-dns\n    ports:\n    - protocol: UDP\n      port: 53\n    - protocol: TCP\n      port: 53\n"), "{}", done.out);
    assert!(done.err.contains("fixed[dns-blocked]: <stdin>:"), "{}", done.err);
    let again = run(&["check", "--fix", "-"], &done.out);
    assert_eq!((again.code, again.out, again.err.as_str()), (0, done.out, ""));
}

#[test]
fn a_symbolic_link_stays_and_its_target_is_fixed() {
    let dir = Folder::new("real.yaml", DENY);
    std::os::unix::fs::symlink("real.yaml", dir.path("link.yaml")).unwrap();
    fs::set_permissions(dir.path("real.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    let done = dir.fix("link.yaml");
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    assert!(fs::symlink_metadata(dir.path("link.yaml")).unwrap().is_symlink());
    assert!(dir.read("real.yaml").contains("kube-dns"));
    assert_eq!(fs::metadata(dir.path("real.yaml")).unwrap().permissions().mode() & 0o777, 0o640);
}

/// Only root can give a file to another user, so for other users this test shows nothing.
#[test]
fn owner_and_mode_of_a_file_stay() {
    const OWNER: u32 = 4_321;
    const MEMBER: u32 = 4_322;
    let dir = Folder::new("policy.yaml", DENY);
    let file = dir.path("policy.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
    if chown(&file, Some(OWNER), Some(OWNER)).is_err() {
        eprintln!("skipped: this user cannot give a file away");
        return;
    }
    let stays = |who: &str| {
        let found = fs::metadata(&file).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (OWNER, OWNER, 0o664), "{who}");
        assert!(dir.read("policy.yaml").contains("kube-dns"), "{who}");
        assert_eq!(fs::read_dir(dir.0.path()).unwrap().count(), 1, "{who}");
    };
    assert_eq!(dir.fix("policy.yaml").code, 0);
    stays("root");
    // A member of the group may write the file, and cannot give a new one to its owner.
    fs::write(&file, DENY).unwrap();
    chown(dir.0.path(), Some(MEMBER), Some(OWNER)).unwrap();
    let mut command = portcullis();
    command.uid(MEMBER).gid(OWNER).args(["check", "--fix"]).arg(&file);
    let done = finish(&mut command, "");
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    stays("a member of the group");
}

#[test]
fn a_read_only_file_stays_as_it_is_and_is_named() {
    let dir = Folder::new("policy.yaml", DENY);
    fs::set_permissions(dir.path("policy.yaml"), fs::Permissions::from_mode(0o444)).unwrap();
    let done = dir.fix("policy.yaml");
    assert_eq!((done.code, dir.read("policy.yaml").as_str()), (1, DENY));
    assert!(done.out.contains("not fixed[dns-blocked]: policy.yaml:"), "{}", done.out);
    assert!(done.out.contains("reason: the file is read-only"), "{}", done.out);
    assert!(done.out.contains("deny[dns-blocked]"), "the finding is still there: {}", done.out);
}

/// Programs read standard output, so everything else goes to standard error.
#[test]
fn json_output_has_the_findings_that_are_left() {
    let dir = Folder::new("policy.yaml", DENY);
    let done = run(&["check", "--fix", "--output", "json", dir.path("policy.yaml").to_str().unwrap()], "");
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((done.code, report["findings"].as_array().unwrap().len()), (0, 0), "{report}");
    assert!(done.err.contains("+  egress:"), "{}", done.err);
}
