//! Logs on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Sends the log of this process to standard error. `filter` is a level, which is meant for this program and not for the
/// libraries in it, or a list such as `info,hyper=debug`.
///
/// # Errors
/// The filter cannot be read, or there is a log already.
pub fn init(format: Format, filter: &str) -> Result<(), String> {
    let ours = match filter.parse::<LevelFilter>() {
        // The client of the cluster logs every failure that it returns, and those are logged where they are dealt with.
        Ok(level) => format!("{},kube_client=off,portcullis={level}", level.min(LevelFilter::WARN)),
        Err(_) => filter.to_owned(),
    };
    let filter = EnvFilter::try_new(&ours).map_err(|error| format!("log level `{filter}`: {error}"))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match format {
        Format::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    done.map_err(|error| error.to_string())
}
