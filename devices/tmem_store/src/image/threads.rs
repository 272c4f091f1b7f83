// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Work that is spread over threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does all work of a list on so many threads, or fewer if the system gives no more; this one is one
/// of them. Each has a tool of its own. What came of it is in the order of the list.
///
/// # Panics
/// When `done` does.
pub(super) fn spread<W: Send, T, D: Send>(
    threads: usize,
    work: impl IntoIterator<Item = W, IntoIter: Send>,
    tool: impl Fn() -> T + Sync,
    done: impl Fn(&mut T, W) -> D + Sync,
) -> Vec<D> {
    let work = Mutex::new(work.into_iter().enumerate());
    let results = Mutex::new(Vec::new());
    let worker = || {
        let mut tool = tool();
        loop {
            // In a statement of its own: the lock is not held while it is done.
            let next = lock(&work).next();
            let Some((nth, work)) = next else {
                break;
            };
            let result = done(&mut tool, work);
            lock(&results).push((nth, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without a thread, the others do it.
            let _ = std::thread::Builder::new().spawn_scoped(scope, worker);
        }
        worker();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(nth, _)| *nth);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_work_is_done_once_and_in_order() {
        for threads in [0, 1, 2, 7] {
            let done = spread(
                threads,
                0..1000_u64,
                || 0_u64,
                |sum, number| {
                    *sum += number;
                    number * 2
                },
            );
            assert_eq!(done, (0..1000).map(|number| number * 2).collect::<Vec<_>>());
        }
    }
}
