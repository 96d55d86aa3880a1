//! Logs on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Sends the log of this process to standard error. `filter` is a level for this program but not for its libraries, or
/// a list such as `info,hyper=debug`.
///
/// # Errors
/// The filter cannot be parsed, or a log is installed already.
pub fn init(format: Format, filter: &str) -> Result<(), String> {
    let ours = match filter.parse::<LevelFilter>() {
        // The Kubernetes client logs every error that it returns. These are logged where they are handled.
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
