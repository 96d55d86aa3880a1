//! The oracles for cost: steps, bytes and processor time of one call.

use std::sync::LazyLock;
use std::time::Duration;

use portcullis::budget::{self, Limits, MAX_BYTES, MAX_STEPS};
use rustix::time::{ClockId, clock_gettime};

use crate::ALLOCATOR;

/// Bytes that a request may take besides what its budget counts: as in `tests/memory.rs`.
const SLACK: usize = 24 * 1024 * 1024;
/// Bytes that any call may take, whatever its budget counts: findings and answers, which have limits of their own.
const FLOOR_BYTES: usize = 2 * 1024 * 1024;
/// Bytes that may be held for each byte that the budget counts.
const BYTES_PER_HELD: usize = 2;
/// Bytes that may be held for each byte of input: copies of the text.
const BYTES_PER_INPUT: usize = 8;

/// Processor time that any call may take.
const FLOOR_TIME: Duration = Duration::from_millis(20);
/// Processor time of the most expensive step, as `budget` documents it.
const TIME_PER_STEP: Duration = Duration::from_nanos(100);
/// Processor time for each byte of input, before the budget counts anything.
const TIME_PER_BYTE: Duration = Duration::from_nanos(20);

/// How many times slower than the shipped binary a call may be. None turns processor time off as an oracle.
///
/// `FUZZ_SLOWDOWN` sets it; 0 turns it off.
static SLOWDOWN: LazyLock<Option<u32>> = LazyLock::new(|| {
    let factor = std::env::var("FUZZ_SLOWDOWN").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    (factor > 0).then_some(factor)
});

/// The resources that one call took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    steps: usize,
    held: usize,
    peak: usize,
    time: Duration,
}

/// Runs a call within the budget of a request, and checks what it took. None if the call exceeded the budget.
pub(crate) fn within_budget<T>(input: usize, mut call: impl FnMut() -> T) -> Option<T> {
    let (done, cost) = measured(&mut call);
    assert!(cost.steps <= MAX_STEPS && cost.held <= MAX_BYTES, "{cost:?}");
    let proportional = FLOOR_BYTES + BYTES_PER_HELD * cost.held + BYTES_PER_INPUT * input;
    let most = proportional.min(MAX_BYTES + SLACK);
    assert!(cost.peak <= most, "{cost:?} for {input} bytes of input: at most {most} bytes may be held");
    if let Some(slowdown) = *SLOWDOWN {
        let of_steps = TIME_PER_STEP * u32::try_from(cost.steps).unwrap_or(u32::MAX);
        let of_input = TIME_PER_BYTE * u32::try_from(input).unwrap_or(u32::MAX);
        let most = FLOOR_TIME + (of_steps + of_input) * slowdown;
        // Another process may have taken the core's caches, so the fastest of several runs counts.
        let is_slow = cost.time > most && (0..3).all(|_| measured(&mut call).1.time > most);
        assert!(!is_slow, "{cost:?} for {input} bytes of input: at most {most:?} of processor time may be used");
    }
    done
}

/// Runs a call that has no budget, and checks the memory and the processor time that it took.
pub(crate) fn bounded<T>(most_bytes: usize, most_time: Duration, mut call: impl FnMut() -> T) -> T {
    let ((done, cost), slowdown) = (measured_alone(&mut call), SLOWDOWN.unwrap_or(u32::MAX));
    assert!(cost.peak <= most_bytes, "{cost:?}: at most {most_bytes} bytes may be held");
    let most = most_time.saturating_mul(slowdown);
    let is_slow = cost.time > most && (0..3).all(|_| measured_alone(&mut call).1.time > most);
    assert!(!is_slow, "{cost:?}: at most {most:?} of processor time may be used");
    done
}

fn measured_alone<T>(call: &mut impl FnMut() -> T) -> (T, Cost) {
    ALLOCATOR.reset_peak_usage();
    let (before, started) = (ALLOCATOR.current_usage(), processor_time());
    let done = call();
    let time = processor_time().saturating_sub(started);
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    (done, Cost { steps: 0, held: 0, peak, time })
}

fn measured<T>(call: &mut impl FnMut() -> T) -> (Option<T>, Cost) {
    ALLOCATOR.reset_peak_usage();
    let (before, started) = (ALLOCATOR.current_usage(), processor_time());
    let done = budget::run(Limits::default(), || {
        let done = call();
        (done, budget::spent())
    });
    let time = processor_time().saturating_sub(started);
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    match done {
        Ok((done, spent)) => (Some(done), Cost { steps: spent.steps, held: spent.bytes, peak, time }),
        Err(_) => (None, Cost { steps: MAX_STEPS, held: MAX_BYTES, peak, time }),
    }
}

/// The processor time of this thread: the machine may stop the process at any moment, so the clock says nothing.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
