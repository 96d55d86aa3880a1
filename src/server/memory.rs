//! The memory for the bodies of all requests.
//!
//! A body reserves memory for its length before it is read. Only small bodies can use a quarter of the memory, so that
//! a few large bodies do not block other users.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Size up to which a body is small, in bytes.
pub(super) const SMALL: usize = 64 * 1024;

/// Memory for bodies, in units of KiB.
#[derive(Clone)]
pub(super) struct Memory {
    any: Arc<Semaphore>,
    small: Arc<Semaphore>,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        let kib = bytes / 1024;
        Self { any: Arc::new(Semaphore::new(kib - kib / 4)), small: Arc::new(Semaphore::new(kib / 4)) }
    }

    /// Reserves memory for a body of this size until the permit is dropped. None if not enough memory is free.
    pub(super) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        let take = |from: &Arc<Semaphore>| Arc::clone(from).try_acquire_many_owned(kib).ok();
        if bytes <= SMALL { take(&self.small).or_else(|| take(&self.any)) } else { take(&self.any) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let memory = Memory::new(4 * 1024 * 1024);
        let large = memory.take(3 * 1024 * 1024);
        assert!(large.is_some() && memory.take(SMALL + 1).is_none());
        let small: Vec<_> = std::iter::from_fn(|| memory.take(SMALL)).take(100).collect();
        assert_eq!(small.len(), 16);
        drop(large);
        assert!(memory.take(SMALL).is_some() && memory.take(SMALL + 1).is_some());
    }
}
