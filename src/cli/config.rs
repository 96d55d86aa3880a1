//! `portcullis config`: checks configuration files, and prints their schema.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::inputs::read_file;
use super::output::{Output, print_json};
use super::sources::Sources;
use super::words::plural;
use super::{BOLD, DENIED, FAILED, FAINT, GREEN, OK, RED};
use crate::config::{self, Configuration};

/// Check configuration files, or print the JSON Schema of the configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 every file is valid, 1 at least one file is invalid, 2 a file could not be read.

Examples:
  portcullis config check portcullis.yaml
  portcullis config schema > portcullis.schema.json")]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check configuration files as `portcullis serve` reads them.
    ///
    /// A valid configuration also has to fit the policies folder: each of its profiles and access labels is a folder there.
    Check {
        /// The configuration files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Read the baseline policies from this folder [default: the built-in policies].
        #[arg(long, value_name = "FOLDER")]
        policies: Option<PathBuf>,
        /// Print the problems in this format.
        #[arg(long, short, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print the JSON Schema (draft 2020-12) of the configuration, for editors.
    ///
    /// Editors with the YAML language server read it from the first line of a file: `# yaml-language-server: $schema=FILE`.
    Schema,
}

/// A problem of one file, as JSON.
#[derive(Debug, Serialize)]
struct Problem {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    problem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    /// True if the file could not be read.
    #[serde(skip)]
    is_unread: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    match &arguments.what {
        What::Check { files, policies, output } => {
            let problems: Vec<Problem> = files.iter().flat_map(|file| check(file, policies.as_deref())).collect();
            match output {
                Output::Text => print_text(files.len(), &problems)?,
                Output::Json => {
                    print_json(&serde_json::json!({ "files": files.len(), "problems": problems }))?;
                }
            }
            Ok(match problems.iter().map(|problem| problem.is_unread).max() {
                None => OK,
                Some(false) => DENIED,
                Some(true) => FAILED,
            })
        }
        What::Schema => {
            print_json(&config::schema())?;
            Ok(OK)
        }
    }
}

/// Returns the problems of one file.
fn check(file: &Path, policies: Option<&Path>) -> Vec<Problem> {
    let name = file.display().to_string();
    let of_file = |problem: String, is_unread: bool| Problem {
        file: name.clone(),
        line: None,
        column: None,
        field: None,
        value: None,
        problem,
        help: None,
        is_unread,
    };
    let text = match read_file(file) {
        Ok(text) => text,
        Err(problem) => return vec![of_file(problem.message, true)],
    };
    let problems: Vec<Problem> = Configuration::check(&text).into_iter().map(|error| of_error(&name, error)).collect();
    if !problems.is_empty() {
        return problems;
    }
    let sources =
        Sources { config: Some(file.to_owned()), policies: policies.map(Path::to_owned), ..Sources::default() };
    let texts = match sources.read() {
        Ok(texts) => texts,
        Err(error) => return vec![of_file(format!("{error:#}"), true)],
    };
    texts.settings().err().map(|error| of_file(format!("{error:#}"), false)).into_iter().collect()
}

fn of_error(file: &str, error: config::Error) -> Problem {
    Problem {
        file: file.to_owned(),
        line: Some(error.line),
        column: Some(error.column),
        field: Some(error.place).filter(|place| !place.is_empty()),
        value: error.value.map(Into::into),
        problem: error.problem,
        help: error.help.map(Into::into),
        is_unread: false,
    }
}

fn print_text(files: usize, problems: &[Problem]) -> Result<()> {
    let mut out = anstream::stdout().lock();
    for Problem { file, line, column, field, value, problem, help, .. } in problems {
        let field = field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
        writeln!(out, "{RED}error{RED:#}: {BOLD}{field}{problem}{BOLD:#}")?;
        let place: String = line.iter().chain(column).map(|number| format!(":{number}")).collect();
        let value = value.as_ref().filter(|value| !problem.contains(&***value) && !field.contains(&***value));
        let value = value.map(|value| format!(", value `{value}`")).unwrap_or_default();
        writeln!(out, "  {FAINT}-->{FAINT:#} {file}{place}{value}")?;
        if let Some(help) = help {
            writeln!(out, "  {GREEN}help{GREEN:#}: {help}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "{} in {}", plural(problems.len(), "error"), plural(files, "file"))?;
    Ok(())
}
