//! What is written again and again since somebody undoes it.

use std::time::{Duration, Instant};

use super::pace::Pace;
use super::plan::Step;

/// After how many writes in a row that did not stay it is told.
pub(super) const TOLD_AFTER: u32 = 4;
/// How long a write is remembered at least.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What was written of late for one key, and how often in a row it did not stay.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// In which namespace of all that ever had its name.
    uid: Box<str>,
    written: Vec<(Step, Instant)>,
    times: u32,
}

impl Contest {
    /// Notes that these steps were done. Says how often in a row something was done that had been done shortly before.
    pub(super) fn note(&mut self, uid: &str, steps: Vec<Step>, now: Instant, pace: &Pace) -> u32 {
        if *self.uid != *uid {
            // One that was made anew needs all of it again.
            *self = Self { uid: uid.into(), ..Self::default() };
        }
        self.forget(now, pace);
        // Pods with gates come all the time, and each deletion is of another object.
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::LiftGates(_) | Step::Delete { .. }));
        let mut is_repeated = false;
        for step in steps {
            match self.written.iter_mut().find(|(known, _)| *known == step) {
                Some((_, at)) => {
                    is_repeated = true;
                    *at = now;
                }
                None => self.written.push((step, now)),
            }
        }
        self.times = if is_repeated { self.times.saturating_add(1) } else { 0 };
        self.times
    }

    /// Forgets what has stayed, and says whether that is all there was.
    pub(super) fn forget(&mut self, now: Instant, pace: &Pace) -> bool {
        // Longer than what is contested rests, or it would begin anew each time.
        let remembered = REMEMBERED.max(pace.most_rest().saturating_mul(3));
        self.written.retain(|(_, at)| now.saturating_duration_since(*at) < remembered);
        if self.written.is_empty() {
            self.times = 0;
        }
        self.written.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::plan::Label;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_done_over_and_over_counts() {
        let (mut contest, pace, start) = (Contest::default(), Pace::default(), Instant::now());
        let mark = Step::Mark { label: Label::Applied, status: String::new() };
        assert_eq!(contest.note("u", vec![Step::Apply(1), mark], start, &pace), 0);
        assert_eq!(contest.note("u", vec![Step::Apply(2)], start + SECOND, &pace), 0, "another thing");
        assert_eq!(contest.note("u", vec![Step::Apply(1), Step::Apply(3)], start + 2 * SECOND, &pace), 1);
        assert_eq!(contest.note("u", vec![Step::Apply(2)], start + 3 * SECOND, &pace), 2, "two who take turns");
        assert_eq!(contest.note("u", vec![Step::Apply(1)], start + 40 * SECOND, &pace), 3);
        assert_eq!(contest.note("u", vec![Step::Apply(1)], start + 1000 * SECOND, &pace), 0, "it stayed for long");
        assert!(!contest.forget(start + 1001 * SECOND, &pace) && contest.forget(start + 2000 * SECOND, &pace));
    }

    #[test]
    fn a_namespace_made_anew_is_no_contest() {
        let (mut contest, pace, now) = (Contest::default(), Pace::default(), Instant::now());
        let times = ["1", "1", "2", "3"].map(|uid| contest.note(uid, vec![Step::Apply(1)], now, &pace));
        assert_eq!(times, [0, 1, 0, 0]);
    }

    #[test]
    fn pods_that_wait_are_no_contest() {
        let (mut contest, pace, now) = (Contest::default(), Pace::default(), Instant::now());
        let lift = || vec![Step::LiftGates(vec!["a".into()])];
        assert_eq!((contest.note("u", lift(), now, &pace), contest.note("u", lift(), now, &pace)), (0, 0));
    }
}
