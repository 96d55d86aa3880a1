//! The budget of one request: how many steps of work it may take, and how many bytes it may hold.
//!
//! Every loop over the parts of a request, and over the objects of the cluster around it, calls `charge`. [`run`]
//! sets the limits for the current thread. A charge that exceeds them unwinds to the innermost [`run`] or [`attempt`].
//! So the functions between them neither pass a budget along nor check for its end, and the result of an unfinished
//! computation is never used. tokio keeps the budget of a task in the same way (`tokio::task::coop`), and salsa cancels
//! a query by unwinding.
//!
//! A step is a bounded piece of work: one comparison of labels, ports or addresses. Steps are counted and not timed, so
//! the decision on a request is the same on a fast and on a slow machine. Outside of [`run`] the budget has no limit.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The limits of one request.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum number of steps.
    pub steps: usize,
    /// Maximum memory of the parsed request, in bytes.
    pub bytes: usize,
    /// True if work that exceeds them ends in [`run`], for another try elsewhere. Otherwise it ends in [`attempt`],
    /// which can report it.
    pub is_trial: bool,
    /// The time after which the API server no longer waits for the answer.
    pub deadline: Option<Instant>,
    /// Set to true once the client is gone.
    pub cancelled: Option<Arc<AtomicBool>>,
}

/// Maximum number of steps of one request. The most expensive step takes some 100 ns, so all of them stay below 250 ms
/// of one core; `cargo bench --bench growth` measures it.
pub const MAX_STEPS: usize = 2_000_000;

/// Maximum memory of one parsed request, in bytes.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self { steps: MAX_STEPS, bytes: MAX_BYTES, is_trial: false, deadline: None, cancelled: None }
    }
}

/// The limit that a request exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Exceeded {
    /// The number of steps.
    #[error("the check exceeds the step limit of one request")]
    Steps,
    /// The number of bytes.
    #[error("the check exceeds the memory limit of one request")]
    Bytes,
    /// The deadline.
    #[error("the deadline of the request has passed")]
    Deadline,
    /// The client closed the connection.
    #[error("the client closed the connection")]
    Cancelled,
}

/// The resources that a request has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The number of steps.
    pub steps: usize,
    /// The number of bytes.
    pub bytes: usize,
}

/// Steps and bytes that are reserved for the report of an exceeded limit.
const RESERVE: usize = 100_000;

/// Steps between two checks of the deadline and of the client.
const SLICE: usize = 4096;

/// The budget of the current thread.
struct Meter {
    /// Steps until the next check.
    slice: Cell<usize>,
    /// Steps after this slice. `usize::MAX`: no limit.
    steps: Cell<usize>,
    bytes: Cell<usize>,
    exceeded: Cell<Option<Exceeded>>,
    reserve_used: Cell<bool>,
    limits: RefCell<Option<Limits>>,
}

thread_local! {
    static METER: Meter = const { Meter::unlimited() };
}

/// The payload with which an exceeded budget unwinds.
struct Unwinding(Exceeded);

impl Meter {
    /// The budget of a thread that evaluates no request.
    const fn unlimited() -> Self {
        Self {
            slice: Cell::new(usize::MAX),
            steps: Cell::new(usize::MAX),
            bytes: Cell::new(usize::MAX),
            exceeded: Cell::new(None),
            reserve_used: Cell::new(false),
            limits: RefCell::new(None),
        }
    }

    /// The budget of a request that has these limits.
    fn of(limits: Limits) -> Self {
        let slice = limits.steps.min(SLICE);
        Self {
            slice: Cell::new(slice),
            steps: Cell::new(limits.steps - slice),
            bytes: Cell::new(limits.bytes),
            limits: RefCell::new(Some(limits)),
            ..Self::unlimited()
        }
    }

    fn swap(&self, other: &Self) {
        self.slice.swap(&other.slice);
        self.steps.swap(&other.steps);
        self.bytes.swap(&other.bytes);
        self.exceeded.swap(&other.exceeded);
        self.reserve_used.swap(&other.reserve_used);
        self.limits.swap(&other.limits);
    }

    /// Ends the computation: now, and at every later charge.
    fn exceed(&self, exceeded: Exceeded) -> ! {
        self.exceeded.set(Some(exceeded));
        self.slice.set(0);
        self.steps.set(0);
        // No panic: the panic hook is not called, and nothing is printed.
        resume_unwind(Box::new(Unwinding(exceeded)))
    }

    fn is_trial(&self) -> bool {
        self.limits.borrow().as_ref().is_some_and(|limits| limits.is_trial)
    }

    /// Releases the reserve for the report of an exceeded limit, once.
    fn release_reserve(&self) {
        if !self.reserve_used.replace(true) {
            self.slice.set(RESERVE);
            self.bytes.set(self.bytes.get().max(RESERVE));
        }
    }

    /// Charges steps that exceed the slice, and starts the next slice.
    #[cold]
    fn refill(&self, steps: usize) {
        if let Some(exceeded) = self.exceeded.get() {
            self.exceed(exceeded);
        }
        let limits = self.limits.borrow();
        let Some(limits) = &*limits else {
            self.slice.set(usize::MAX);
            return;
        };
        if limits.cancelled.as_ref().is_some_and(|cancelled| cancelled.load(Ordering::Relaxed)) {
            self.exceed(Exceeded::Cancelled);
        }
        if limits.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.exceed(Exceeded::Deadline);
        }
        let missing = steps - self.slice.get();
        let Some(left) = self.steps.get().checked_sub(missing) else { self.exceed(Exceeded::Steps) };
        let slice = left.min(SLICE);
        self.slice.set(slice);
        self.steps.set(left - slice);
    }
}

/// Charges steps to the request that is being evaluated on this thread.
#[inline]
pub(crate) fn charge(steps: usize) {
    METER.with(|meter| match meter.slice.get().checked_sub(steps) {
        Some(left) => meter.slice.set(left),
        None => meter.refill(steps),
    });
}

/// Charges bytes that are about to be allocated for the request that is being evaluated on this thread.
pub fn hold(bytes: usize) {
    METER.with(|meter| {
        if meter.bytes.get() == usize::MAX {
            return;
        }
        match meter.bytes.get().checked_sub(bytes) {
            Some(left) => meter.bytes.set(left),
            None => meter.exceed(Exceeded::Bytes),
        }
    });
}

/// Bytes of the model, and of the structs that it is read from, for one object of a JSON text: a rule, a peer, a port.
const BYTES_PER_OBJECT: usize = 300;
/// The same for one item of a list or of an object.
const BYTES_PER_ITEM: usize = 64;
/// Steps for reading one value of a JSON text.
const STEPS_PER_VALUE: usize = 4;

/// Counts the objects in a JSON text, or slightly more. A null item of a list counts, because it is read as an object
/// without fields. It is recognized by its first two letters.
fn objects(text: &str) -> usize {
    let bytes = text.as_bytes();
    let nulls = count(bytes, bytes.get(1..).unwrap_or_default(), |first, second| (first == b'n') & (second == b'u'));
    count(bytes, bytes, |byte, _| byte == b'{') + nulls
}

/// Charges a JSON text that is about to be read into structs: by its length, and by the number of values in it.
///
/// Values are counted by the characters that separate them, so those within strings count too. That costs a tenth of
/// reading the text.
pub(crate) fn charge_json(text: &str) {
    charge(text.len() / 64);
    let objects = objects(text);
    let items = count(text.as_bytes(), text.as_bytes(), |byte, _| matches!(byte, b'[' | b','));
    charge((objects + items) * STEPS_PER_VALUE);
    hold(objects * BYTES_PER_OBJECT + items * BYTES_PER_ITEM + text.len());
}

/// Charges the bytes of each object of a JSON text that takes more than [`charge_json`] counts.
pub(crate) fn hold_objects(text: &str, bytes_each: usize) {
    hold(objects(text) * bytes_each);
}

/// Counts the positions at which the bytes of both lists match the predicate. Sums of up to 255 fit into a byte, so
/// that the compiler can vectorize the loop.
fn count(firsts: &[u8], seconds: &[u8], are_meant: impl Fn(u8, u8) -> bool) -> usize {
    let of = |(firsts, seconds): (&[u8], &[u8])| {
        let pairs = firsts.iter().zip(seconds);
        pairs.fold(0_u8, |sum, (first, second)| sum.wrapping_add(u8::from(are_meant(*first, *second))))
    };
    firsts.chunks(255).zip(seconds.chunks(255)).map(|parts| usize::from(of(parts))).sum()
}

/// Runs work within its own limits.
///
/// # Errors
/// The work exceeded a limit.
pub fn run<T>(limits: Limits, work: impl FnOnce() -> T) -> Result<T, Exceeded> {
    let own = Meter::of(limits);
    METER.with(|meter| meter.swap(&own));
    let done = catch_unwind(AssertUnwindSafe(work));
    METER.with(|meter| meter.swap(&own));
    unwound(done)
}

/// Runs work within the current limits, and returns here if it exceeds the steps or bytes. Variables of the caller keep
/// the values that the work gave them. The first time, a reserve of `RESERVE` steps is released to report it; after
/// the reserve every charge unwinds again. A passed deadline, a closed connection and a trial unwind to [`run`].
///
/// # Errors
/// The work exceeded a limit.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, Exceeded> {
    let done = unwound(catch_unwind(AssertUnwindSafe(work)));
    match done {
        Err(exceeded)
            if matches!(exceeded, Exceeded::Deadline | Exceeded::Cancelled) || METER.with(Meter::is_trial) =>
        {
            resume_unwind(Box::new(Unwinding(exceeded)))
        }
        Err(_) => METER.with(Meter::release_reserve),
        Ok(_) => {}
    }
    done
}

/// Returns the resources that the innermost [`run`] has used so far. Zero outside of [`run`].
#[must_use]
pub fn spent() -> Spent {
    METER.with(|meter| {
        let limits = meter.limits.borrow();
        let Some(limits) = &*limits else { return Spent::default() };
        let left = meter.steps.get().saturating_add(meter.slice.get());
        Spent { steps: limits.steps.saturating_sub(left), bytes: limits.bytes.saturating_sub(meter.bytes.get()) }
    })
}

fn unwound<T>(done: std::thread::Result<T>) -> Result<T, Exceeded> {
    done.map_err(|payload| match payload.downcast::<Unwinding>() {
        Ok(unwinding) => unwinding.0,
        Err(panic) => resume_unwind(panic),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(steps: usize) -> Limits {
        Limits { steps, ..Limits::default() }
    }

    #[test]
    fn objects_are_counted_in_texts_of_any_length() {
        for length in [0, 1, 127, 128, 254, 255, 256, 511, 600] {
            let text = format!("[{}]", ["{}", "null", "nullnull"].map(|item| item.repeat(length)).join(","));
            assert_eq!(objects(&text), 4 * length, "{length}");
        }
        assert_eq!((objects(""), objects("n"), objects("{")), (0, 0, 1));
    }

    #[test]
    fn work_within_the_limit_is_done_and_counted() {
        let spent = run(steps(10_000), || {
            (0..10_000).for_each(|_| charge(1));
            spent()
        });
        assert_eq!(spent, Ok(Spent { steps: 10_000, bytes: 0 }));
        charge(1_000_000_000);
        hold(usize::MAX);
    }

    #[test]
    fn one_step_more_ends_the_work() {
        let done = Cell::new(0);
        let ended = run(steps(10_000), || {
            loop {
                charge(1);
                done.set(done.get() + 1);
            }
        });
        assert_eq!((ended, done.get()), (Err::<(), _>(Exceeded::Steps), 10_000));
        assert_eq!(run(steps(5), || charge(6)), Err(Exceeded::Steps));
        assert_eq!(run(Limits { bytes: 5, ..Limits::default() }, || hold(6)), Err(Exceeded::Bytes));
    }

    #[test]
    fn an_exceeded_budget_stays_exceeded() {
        let ended = run(steps(10), || {
            assert_eq!(attempt(|| charge(11)), Err(Exceeded::Steps));
            assert_eq!(attempt(|| charge(RESERVE)), Ok(()));
            assert_eq!(attempt(|| charge(1)), Err(Exceeded::Steps));
            assert_eq!(attempt(|| charge(1)), Err(Exceeded::Steps));
            assert_eq!(run(steps(100), || charge(50)), Ok(()), "limits of its own");
            charge(1);
        });
        assert_eq!(ended, Err(Exceeded::Steps));
    }

    #[test]
    fn a_client_that_is_gone_ends_the_work() {
        let cancelled = Arc::new(AtomicBool::new(false));
        let limits = Limits { cancelled: Some(Arc::clone(&cancelled)), ..Limits::default() };
        let ended = run(limits, || {
            charge(SLICE);
            cancelled.store(true, Ordering::Relaxed);
            charge(SLICE);
        });
        assert_eq!(ended, Err(Exceeded::Cancelled));
        let limits = Limits { deadline: Some(Instant::now()), ..Limits::default() };
        assert_eq!(run(limits, || charge(SLICE + 1)), Err(Exceeded::Deadline));
    }

    #[test]
    fn a_trial_ends_as_a_whole() {
        let limits = Limits { is_trial: true, ..steps(10) };
        let ended = run(limits, || attempt(|| charge(11)).is_err());
        assert_eq!(ended, Err(Exceeded::Steps));
    }

    #[test]
    fn a_panic_goes_on_as_one() {
        let panic = catch_unwind(|| run(steps(10), || resume_unwind(Box::new("other"))));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"other"));
        assert_eq!(run(steps(1), || charge(1)), Ok(()), "the budget of the thread was put back");
    }

    #[test]
    fn values_of_json_are_counted() {
        let spent = run(Limits::default(), || {
            charge_json(r#"[{},{"a":[1,2]}]"#);
            spent()
        });
        let bytes = 2 * BYTES_PER_OBJECT + 4 * BYTES_PER_ITEM + 16;
        let expected = Spent { steps: 6 * STEPS_PER_VALUE, bytes };
        assert_eq!(spent, Ok(expected));
    }
}
