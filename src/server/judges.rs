//! Threads that evaluate expensive requests, with a queue for each user.
//!
//! A request is first evaluated on the thread that read it, within [`INLINE_STEPS`]. Most requests need a hundredth of
//! that, and a change of threads would cost more than the work. Requests that need more, and all large bodies, are
//! queued here. So they never block the tasks that accept, read and answer. However many expensive requests one user
//! sends, another user waits for at most one of them.
//!
//! These threads have a lower priority than the others. On few cores, a cheap request or a probe does not wait for the
//! time slice of an expensive request.
//!
//! **Limits**: one thread less than there are cores, between 1 and 2; [`MAX_WAITING`] waiting requests of one user.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::{io, thread};

/// Maximum number of steps of a request on the thread that read it: less than a millisecond.
pub(super) const INLINE_STEPS: usize = 5_000;
/// Maximum memory of a parsed request on that thread, in bytes.
pub(super) const INLINE_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of requests of one user that wait for a thread.
const MAX_WAITING: usize = 16;
/// Maximum number of threads. Each may hold the maximum memory of one request.
const MAX_THREADS: usize = 2;
/// The niceness of these threads relative to the process: a tenth of the processor time if both compete for it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The threads and their queue. They end when this value is dropped.
pub(super) struct Judges {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The waiting jobs by user. A user without jobs has no entry.
    waiting: HashMap<Box<str>, VecDeque<Job>>,
    /// The users with waiting jobs, in the order of their turns.
    turns: VecDeque<Box<str>>,
    closed: bool,
}

/// The user has [`MAX_WAITING`] waiting requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl Judges {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub(super) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let queue = Arc::new(Queue::default());
        for number in 0..cores.saturating_sub(1).clamp(1, MAX_THREADS) {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("judge-{number}")).spawn(move || {
                lower_priority();
                while let Some(job) = queue.next() {
                    job();
                }
            })?;
        }
        Ok(Self { queue })
    }

    /// Queues a job of a user.
    ///
    /// # Errors
    /// The user has [`MAX_WAITING`] waiting jobs.
    pub(super) fn submit(&self, user: &str, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.queue.submit(user, Box::new(job))
    }
}

/// Lowers the priority of the current thread to that of expensive requests.
pub(crate) fn lower_priority() {
    // Only Linux has a niceness per thread. If the system rejects the change, all threads have the same priority.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICENESS);
}

impl Drop for Judges {
    fn drop(&mut self) {
        self.queue.with(|state| state.closed = true);
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn submit(&self, user: &str, job: Job) -> Result<(), Busy> {
        self.with(|state| match state.waiting.get_mut(user) {
            Some(jobs) if jobs.len() >= MAX_WAITING => Err(Busy),
            Some(jobs) => {
                jobs.push_back(job);
                Ok(())
            }
            None => {
                state.waiting.insert(user.into(), VecDeque::from([job]));
                state.turns.push_back(user.into());
                Ok(())
            }
        })?;
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next job. Users take turns. Returns None once the queue is closed.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.next() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        // Jobs run outside of the lock, so a panic while it is held leaves the state whole.
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn next(&mut self) -> Option<Job> {
        let user = self.turns.pop_front()?;
        let jobs = self.waiting.get_mut(&user)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.waiting.remove(&user);
        } else {
            self.turns.push_back(user);
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn users_take_turns() {
        let queue = Queue::default();
        let (done, order) = channel();
        for (user, jobs) in [("mallory", 5), ("ada", 2), ("bob", 1)] {
            for _ in 0..jobs {
                let done = done.clone();
                queue.submit(user, Box::new(move || done.send(user).unwrap())).unwrap();
            }
        }
        (0..8).for_each(|_| queue.next().unwrap()());
        drop(done);
        let order: Vec<&str> = order.iter().collect();
        assert_eq!(order, ["mallory", "ada", "bob", "mallory", "ada", "mallory", "mallory", "mallory"]);
        assert!(queue.with(|state| state.waiting.is_empty() && state.turns.is_empty()), "nothing is kept of a user");
    }

    #[test]
    fn a_user_has_a_share_of_the_queue() {
        let queue = Queue::default();
        let submit = |user| queue.submit(user, Box::new(|| {}));
        for _ in 0..MAX_WAITING {
            assert_eq!(submit("mallory"), Ok(()));
        }
        assert_eq!(submit("mallory"), Err(Busy));
        assert_eq!(submit("ada"), Ok(()));
        queue.next().unwrap()();
        assert_eq!(submit("mallory"), Ok(()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_give_way_to_the_others() {
        let niceness = || rustix::process::nice(0).unwrap();
        let (judges, own) = (Judges::start().unwrap(), niceness());
        let (done, answers) = channel();
        judges.submit("ada", move || done.send(niceness()).unwrap()).unwrap();
        assert_eq!(answers.recv().unwrap(), (own + NICENESS).min(19));
        assert_eq!(niceness(), own, "the thread alone");
    }

    #[test]
    fn threads_work_until_the_queue_is_dropped() {
        let judges = Judges::start().unwrap();
        let (done, answers) = channel();
        judges.submit("ada", move || done.send(thread::current().name().map(str::to_owned)).unwrap()).unwrap();
        assert!(answers.recv().unwrap().unwrap().starts_with("judge-"));
        let queue = Arc::clone(&judges.queue);
        drop(judges);
        assert!(queue.next().is_none());
    }
}
