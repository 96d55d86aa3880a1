//! `portcullis rules`: the documentation of the rules, and their rollout.

mod promote;

use std::io::Write as _;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::{BOLD, OK};
use crate::rules::{Definition, RULES, find};

/// List the rules, explain one (its purpose, its effects and its settings), or enforce one in more namespaces.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// Explain this rule [default: list all rules].
    name: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Promote(promote::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    if let Some(Command::Promote(arguments)) = &arguments.command {
        return promote::run(arguments);
    }
    let mut out = anstream::stdout().lock();
    let Some(name) = &arguments.name else {
        let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or_default();
        for rule in RULES {
            writeln!(out, "{BOLD}{:width$}{BOLD:#}  {:5}  {}", rule.name, rule.mode.name(), rule.summary())?;
        }
        return Ok(OK);
    };
    let rule = named(name)?;
    let page = rule.page();
    let (title, rest) = page.split_once('\n').unwrap_or((&page, ""));
    writeln!(out, "{BOLD}{title}{BOLD:#}\n{rest}")?;
    Ok(OK)
}

/// Returns a rule by its name.
fn named(name: &str) -> Result<&'static Definition> {
    if let Some(rule) = find(name) {
        return Ok(rule);
    }
    let near = RULES.iter().min_by_key(|rule| strsim::damerau_levenshtein(name, rule.name));
    match near.filter(|rule| strsim::damerau_levenshtein(name, rule.name) <= 3) {
        Some(near) => bail!("unknown rule `{name}`; did you mean `{}`?", near.name),
        None => bail!("unknown rule `{name}`; `portcullis rules` lists all rules"),
    }
}
