//! Progress of long work, on a terminal only.

use std::io::{IsTerminal as _, Stderr, Write};
use std::time::{Duration, Instant};

/// The time before which nothing is shown.
const DELAY: Duration = Duration::from_secs(2);
/// The minimum time between two updates.
const INTERVAL: Duration = Duration::from_millis(100);

/// One line on standard error that is rewritten and removed at the end.
pub(super) struct Progress<W: Write = Stderr> {
    /// None if standard error is not a terminal.
    out: Option<W>,
    due: Instant,
    /// The length of the line that is shown.
    shown: usize,
}

impl Progress {
    /// Starts the time of some work.
    pub(super) fn start() -> Self {
        let err = std::io::stderr();
        let can_rewrite = err.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self::with(can_rewrite.then_some(err), Instant::now())
    }

    /// Shows how much of the work is done.
    pub(super) fn update(&mut self, verb: &str, done: usize, all: usize, noun: &str) {
        if self.out.is_some() {
            self.update_at(Instant::now(), || format!("{verb} {noun}: {done} of {all}"));
        }
    }
}

impl<W: Write> Progress<W> {
    fn with(out: Option<W>, start: Instant) -> Self {
        Self { out, due: start + DELAY, shown: 0 }
    }

    fn update_at(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if now >= self.due {
            self.due = now + INTERVAL;
            self.show(&line());
        }
    }

    /// Replaces the line. Spaces cover the rest of a longer one. A terminal that cannot be written to is ignored.
    fn show(&mut self, line: &str) {
        if let Some(out) = &mut self.out {
            let length = line.chars().count();
            let _ = write!(out, "\r{line}{}", " ".repeat(self.shown.saturating_sub(length)));
            let _ = out.flush();
            self.shown = length;
        }
    }
}

impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        if self.shown > 0 {
            self.show("");
            if let Some(out) = &mut self.out {
                let _ = out.write_all(b"\r");
                let _ = out.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_late_rewritten_and_removed() {
        let (mut out, start) = (Vec::new(), Instant::now());
        let mut progress = Progress::with(Some(&mut out), start);
        progress.update_at(start + Duration::from_millis(1_999), || panic!("too early"));
        progress.update_at(start + DELAY, || "10 of 12".into());
        progress.update_at(start + DELAY + Duration::from_millis(99), || panic!("too soon"));
        progress.update_at(start + DELAY + INTERVAL, || "2 of 2".into());
        drop(progress);
        assert_eq!(String::from_utf8(out).unwrap(), "\r10 of 12\r2 of 2  \r      \r");
    }

    #[test]
    fn short_work_and_pipes_get_nothing() {
        let (mut out, start) = (Vec::new(), Instant::now());
        drop(Progress::with(Some(&mut out), start));
        assert!(out.is_empty());
        let mut progress = Progress::<Vec<u8>>::with(None, start);
        progress.update_at(start + DELAY, || "1 of 2".into());
        assert_eq!(progress.shown, 0);
    }
}
