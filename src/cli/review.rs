//! `portcullis review`: answers one AdmissionReview.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::sources::Sources;
use super::{DENIED, OK};
use crate::admission::{self, Knowledge};
use crate::budget::{self, Limits};
use crate::view::Facts;

/// Read one AdmissionReview from standard input and print the answer.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 allowed, 1 denied, 2 the input is not an AdmissionReview.")]
pub(super) struct Arguments {
    /// Read the configuration from this file [default: the built-in configuration].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the baseline policies from this folder [default: the built-in policies].
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Add manifests of objects that are in the cluster. Repeatable.
    #[arg(long, value_name = "PATH")]
    context: Vec<PathBuf>,
    /// Answer like /mutate instead of /validate.
    #[arg(long)]
    mutate: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let sources = Sources {
        config: arguments.config.clone(),
        policies: arguments.policies.clone(),
        context: arguments.context.clone(),
        ..Sources::default()
    };
    sources.refuse_stdin()?;
    let knowledge = Knowledge { applies_baselines: true, ..sources.load()? };
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).context("failed to read standard input")?;
    let endpoint = if arguments.mutate { admission::mutate } else { admission::validate };
    let answered = budget::run(Limits::default(), || endpoint(&knowledge, &Facts::default(), &body));
    let answer = answered??.answer()?;
    let mut out = std::io::stdout().lock();
    out.write_all(&answer.body)?;
    writeln!(out)?;
    Ok(if answer.decision.allowed { OK } else { DENIED })
}
