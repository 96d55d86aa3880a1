//! Texts that say the same in many layouts, and texts that are almost YAML: the same ones in every run.

/// A small generator of pseudo-random numbers (splitmix64), so that the texts depend on the seed alone.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Scalars that readers of YAML disagree about, and those of policies.
const SCALARS: &[&str] = &[
    "web",
    "shop",
    "80",
    "8e3",
    "8.0e1",
    "443.0",
    "080",
    "0x1F",
    "0b101",
    "0o17",
    "017",
    "1_000",
    "1.5",
    ".5",
    "5.",
    "-5",
    "+5",
    "-0.0",
    "1e400",
    "12e03",
    "1e",
    "0x",
    "1:30",
    "190:20:30",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "N",
    "True",
    "FALSE",
    "null",
    "~",
    "",
    "Null",
    "nUll",
    "tRue",
    "2026-11-21",
    "2026-11-21T10:00:00Z",
    "10.0.0.0/8",
    "::/0",
    "fd00::/8",
    "a:b",
    "a: b",
    "a #b",
    "a#b",
    "#a",
    "- a",
    "-",
    "-a",
    "--- a",
    "...",
    "? a",
    "?a",
    ":a",
    "a:",
    "'a",
    "a'b",
    "\"a",
    "a\"b",
    "it's",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a",
    "{a",
    "[a]",
    "{a: b}",
    "]",
    "}",
    ",",
    "a, b",
    "a,b",
    "|",
    ">",
    "| a",
    "=",
    "<<",
    "two words",
    "three little words",
    " a",
    "a ",
    "a\nb",
    "a\n",
    "a\n\n",
    "\na",
    "a\n b\nc",
    "a\n\nb",
    "a\tb",
    "\ta",
    "é",
    "\u{1f512}",
    "a\\b",
    "\\n",
    "${node_subnet}",
    "$(NAME)",
    "{{ .Values.port }}",
    "http://a/b?c#d",
    "app.kubernetes.io/name",
    "k8s:app",
    "*.example.com",
    "[\n  {\"name\": \"fast\"}\n]",
    "0.0.0.0/0",
    "TCP",
    "'",
    "\"",
    "\\",
    "a\u{85}b",
    "a\u{2028}b",
    "\u{feff}a",
    ".inf",
    ".nan",
    ".",
    "-.5",
    "+.5",
    "1__0",
    "_1",
    "0_1",
    "-0x1F",
    "0b-1",
    "1e-3",
    "100000000000000000000",
    "0.1",
    "1E5",
    "1.e2",
    "0e0",
];

/// Scalars that are one where they are not quoted, too.
const PLAIN: &[&str] = &[
    "web",
    "shop",
    "80",
    "8e3",
    "443.0",
    "080",
    "0x1F",
    "0b101",
    "017",
    "1_000",
    "1.5",
    ".5",
    "-5",
    "+5",
    "-0.0",
    "1:30",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "N",
    "True",
    "null",
    "~",
    "2026-11-21",
    "10.0.0.0/8",
    "::/0",
    "a:b",
    "a#b",
    "it's",
    "two words",
    "three little words",
    "é",
    "a\\b",
    "$(NAME)",
    "app.kubernetes.io/name",
    "k8s:app",
    "TCP",
    "a\"b",
    "9223372036854775808",
];

const KEYS: &[&str] = &[
    "kind",
    "spec",
    "podSelector",
    "matchLabels",
    "app",
    "ingress",
    "from",
    "ports",
    "port",
    "except",
    "y",
    "on",
    "1",
    "1.5",
    "null",
    "a b",
    "a: b",
    "#a",
    "*",
    "<<",
    "",
    "?",
    "k8s.v1.cni.cncf.io/networks",
    "'a'",
    "010",
    "true",
    "a:b",
    "-",
    "- a",
];

const BREAKS: &[&str] =
    &["\n", "\n", "\n", "\n  ", "\n\n", " ", " ", "\n # a comment\n", "\n\t", "\n      ", " # a comment\n", ""];

enum Tree {
    Scalar(&'static str),
    List(Vec<Tree>),
    Map(Vec<(&'static str, Tree)>),
}

fn tree(random: &mut Random, depth: usize) -> Tree {
    match random.below(if depth == 0 { 1 } else { 7 }) {
        0..=2 => {
            let scalars = if random.one_in(4) { SCALARS } else { PLAIN };
            Tree::Scalar(random.pick(scalars))
        }
        3 => Tree::List((0..random.below(4)).map(|_| tree(random, depth - 1)).collect()),
        _ => {
            let count = 1 + random.below(3);
            let start = random.below(KEYS.len());
            let plain = !random.one_in(6);
            let key = |n: usize| KEYS[if plain { (start + n) % 10 } else { (start + n) % KEYS.len() }];
            Tree::Map((0..count).map(|n| (key(n), tree(random, depth - 1))).collect())
        }
    }
}

fn single(text: &str, random: &mut Random) -> String {
    folded(&text.replace('\'', "''"), '\'', random)
}

fn double(text: &str, random: &mut Random) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' if random.one_in(2) => escaped.push_str("\\n"),
            '\t' if random.one_in(2) => escaped.push_str("\\t"),
            '/' if random.one_in(8) => escaped.push_str("\\/"),
            'é' if random.one_in(2) => escaped.push_str(random.pick(&["\\u00e9", "\\xe9", "\\U000000e9"])),
            ' ' if random.one_in(8) => escaped.push_str(random.pick(&["\\ ", "\\x20", " \\\n   "])),
            c => escaped.push(c),
        }
    }
    folded(&escaped, '"', random)
}

/// A quoted scalar that may go on in the next line, at any column.
fn folded(text: &str, quote: char, random: &mut Random) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            ' ' if random.one_in(2) => out.push_str(random.pick(&["\n", "\n  ", "\n      ", " \n", "\n\t", "\n \n"])),
            '\n' => out.push_str(random.pick(&["\n\n", "\n\n  ", "\n \n", "\n"])),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

fn block_scalar(text: &str, indent: usize, random: &mut Random) -> String {
    let mut out = String::from(random.pick(&["|", ">"]));
    let more = 1 + random.below(3);
    let chomping = random.pick(&["", "", "-", "+"]);
    if random.one_in(6) {
        out.push_str(&if random.one_in(2) { format!("{more}{chomping}") } else { format!("{chomping}{more}") });
    } else {
        out.push_str(chomping);
    }
    out.push_str(random.pick(&["", "", "", " ", " # a comment"]));
    for line in text.split('\n') {
        out.push('\n');
        if !line.is_empty() || random.one_in(3) {
            out.push_str(&" ".repeat(indent + more));
        }
        out.push_str(line);
    }
    out.push_str(random.pick(&["", "", "\n", "\n\n"]));
    out
}

fn scalar(text: &str, indent: usize, is_flow: bool, random: &mut Random) -> String {
    match random.below(8) {
        0 | 1 => single(text, random),
        2 | 3 => double(text, random),
        4 if !is_flow => block_scalar(text, indent, random),
        5 if random.one_in(4) => {
            format!("{} {text}", random.pick(&["!!str", "!!str", "!!int", "!!float", "!own", "!"]))
        }
        5 if random.one_in(4) => format!("&a {text}"),
        5 if random.one_in(40) => "*a".to_owned(),
        6 if text.contains(' ') => text.replacen(' ', random.pick(&["\n", "\n  ", "\n        ", " "]), 1),
        _ => text.to_owned(),
    }
}

fn key(text: &str, is_flow: bool, random: &mut Random) -> String {
    match random.below(8) {
        0 => format!("'{text}'"),
        1 => format!("\"{text}\""),
        2 if random.one_in(6) => format!("? {text}{}", if is_flow { "" } else { "\n" }),
        3 if random.one_in(6) => format!("&k {text}"),
        _ => text.to_owned(),
    }
}

fn flow(tree: &Tree, random: &mut Random, out: &mut String) {
    let gap = |random: &mut Random| if random.one_in(2) { "" } else { random.pick(BREAKS) };
    match tree {
        Tree::Scalar(text) => out.push_str(&scalar(text, 0, true, random)),
        Tree::List(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                out.push_str(if position == 0 { "" } else { random.pick(&[",", ", ", " , "]) });
                out.push_str(gap(random));
                flow(item, random, out);
            }
            out.push_str(if items.is_empty() { "" } else { random.pick(&["", "", ",", "\n", "\n  "]) });
            out.push(']');
        }
        Tree::Map(entries) => {
            out.push('{');
            for (position, (name, value)) in entries.iter().enumerate() {
                out.push_str(if position == 0 { "" } else { random.pick(&[",", ", ", ",\n"]) });
                out.push_str(gap(random));
                out.push_str(&key(name, true, random));
                out.push_str(random.pick(&[": ", ": ", ": ", ": ", ":", " : ", ":\n"]));
                flow(value, random, out);
            }
            out.push_str(random.pick(&["", "", ",", "\n", "\n  "]));
            out.push('}');
        }
    }
}

fn block(tree: &Tree, indent: usize, random: &mut Random, out: &mut String) {
    let pad = " ".repeat(indent);
    let end = |random: &mut Random, out: &mut String| {
        out.push_str(random.pick(&["", "", "", " ", "  # a comment", "\t", "\n", "\n# a comment", "\n   # a comment"]));
        out.push('\n');
    };
    match tree {
        Tree::Scalar(text) => {
            out.push_str(&scalar(text, indent, false, random));
            end(random, out);
        }
        Tree::List(items) if !items.is_empty() && !random.one_in(4) => {
            for item in items {
                out.push_str(&pad);
                out.push_str(random.pick(&["- ", "- ", "- ", "-  ", "-  ", "-   ", "-   "]));
                nested(item, indent, random, out);
            }
        }
        Tree::Map(entries) if !random.one_in(4) => {
            for (name, value) in entries {
                out.push_str(&pad);
                out.push_str(&key(name, false, random));
                out.push_str(random.pick(&[": ", ": ", ": ", ":  ", " : ", ":\t"]));
                nested(value, indent, random, out);
            }
        }
        tree => {
            flow(tree, random, out);
            end(random, out);
        }
    }
}

/// The value of a key, or an item: on the same line or below it.
fn nested(tree: &Tree, indent: usize, random: &mut Random, out: &mut String) {
    if matches!(tree, Tree::Scalar(_)) || random.one_in(4) {
        if random.one_in(8) {
            out.push('\n');
            out.push_str(&" ".repeat(indent + 1 + random.below(4)));
        }
        let mut text = String::new();
        match tree {
            Tree::Scalar(_) => block(tree, indent, random, &mut text),
            tree => {
                flow(tree, random, &mut text);
                text.push('\n');
            }
        }
        out.push_str(&text);
        return;
    }
    out.push_str(random.pick(&["", "", "", " # a comment", if matches!(tree, Tree::Map(_)) { "!!map" } else { "&m" }]));
    out.push('\n');
    let more = if matches!(tree, Tree::List(_)) { random.below(3) } else { 1 + random.below(4) };
    block(tree, indent + more, random, out);
}

/// Changes a few characters that layout is made of.
fn mutate(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..1 + random.below(2) {
        let position = random.below(chars.len() + 1);
        let new = random.pick(&[
            " ", "\n", "\t", "'", "\"", ":", "-", "#", ",", "[", "]", "{", "}", "|", ">", "&", "*", "!", "%", "?",
            "\r", "  ", "\n\n", "\n---\n", "\n...\n", ": ", "- ", " #", "\\", "<<: *a", "\u{85}", "\u{feff}",
        ]);
        match random.below(3) {
            0 if position < chars.len() => drop(chars.remove(position)),
            1 if position < chars.len() => drop(chars.splice(position..=position, new.chars())),
            _ => drop(chars.splice(position..position, new.chars())),
        }
    }
    chars.into_iter().collect()
}

/// The text with this number.
pub(super) fn text(number: u64) -> String {
    let mut random = Random::new(number);
    let mut out = String::new();
    if random.one_in(8) {
        out.push_str(random.pick(&[
            "\u{feff}",
            "%YAML 1.1\n---\n",
            "# only a comment\n---\n",
            "---\n",
            "--- # a\n",
            "\n\n",
            "---\n---\n",
        ]));
    }
    for _ in 0..1 + usize::from(random.one_in(4)) {
        if !out.is_empty() && random.one_in(2) {
            out.push_str(random.pick(&[
                "---\n",
                "--- # a\n",
                "...\n---\n",
                "---  \n",
                "---\t\n",
                "---\n",
                "--- # b\n",
                "---\n",
                "--- a\n",
                "---\n# a\n---\n",
            ]));
        }
        let tree = loop {
            match tree(&mut random, 4) {
                Tree::Scalar(_) if !random.one_in(12) => {}
                tree => break tree,
            }
        };
        if random.one_in(8) {
            flow(&tree, &mut random, &mut out);
            out.push('\n');
        } else {
            block(&tree, 0, &mut random, &mut out);
        }
    }
    if random.one_in(5) {
        out = mutate(&out, &mut random);
    }
    match random.below(10) {
        0 => out.replace('\n', "\r\n"),
        1 => out.trim_end().to_owned(),
        _ => out,
    }
}
