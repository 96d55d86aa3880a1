//! `portcullis rules`: the documentation of the rules.

use std::io::Write as _;

use anyhow::{Result, bail};
use clap::Args;

use super::{BOLD, OK};
use crate::rules::{RULES, find};

/// List the rules, or explain one: its purpose, its effects and its settings.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Explain this rule [default: list all rules].
    name: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let mut out = anstream::stdout().lock();
    let Some(name) = &arguments.name else {
        let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or_default();
        for rule in RULES {
            writeln!(out, "{BOLD}{:width$}{BOLD:#}  {:5}  {}", rule.name, rule.mode.name(), rule.summary())?;
        }
        return Ok(OK);
    };
    let Some(rule) = find(name) else {
        let near = RULES.iter().min_by_key(|rule| strsim::damerau_levenshtein(name, rule.name));
        match near.filter(|rule| strsim::damerau_levenshtein(name, rule.name) <= 3) {
            Some(near) => bail!("unknown rule `{name}`; did you mean `{}`?", near.name),
            None => bail!("unknown rule `{name}`; `portcullis rules` lists all rules"),
        }
    };
    let page = rule.page();
    let (title, rest) = page.split_once('\n').unwrap_or((&page, ""));
    writeln!(out, "{BOLD}{title}{BOLD:#}\n{rest}")?;
    Ok(OK)
}
