// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the cluster has that nobody needs: segments that are needed no longer, and areas of daemons
//! that are gone.

use crate::key::Keys;
use crate::link::{Failure, Link};
use crate::resp::Answer;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Keys that are removed together.
const AT_ONCE: usize = 256;

/// How long the thread rests when the cluster does not answer.
const REST: Duration = Duration::from_secs(1);

/// Steps of a scan of one node, each of about 1000 keys.
const STEPS: u32 = 1 << 16;

/// Digits of a number of 64 bits.
const LONGEST_CURSOR: usize = 20;

/// What is to be removed.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    state: Mutex<State>,
    changed: Condvar,
    ends: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Segments that are needed no longer.
    keys: Vec<String>,
    /// All areas but this one are to go.
    only: Option<u64>,
}

impl Leftovers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment is needed no longer.
    pub(crate) fn forget(&self, key: String) {
        let mut state = self.state();
        // Without memory for the list it stays until the next daemon begins anew.
        if state.keys.try_reserve(1).is_ok() {
            state.keys.push(key);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// No area of the namespace is needed but this one.
    pub(crate) fn keep_only(&self, identity: u64) {
        self.state().only = Some(identity);
        self.changed.notify_one();
    }

    /// Removes what there is to be removed until the end. `failed` is told what goes wrong.
    pub(crate) fn work(&self, link: &mut Link, keys: &Keys, failed: impl Fn(&Failure)) {
        while let Some(work) = self.next() {
            let done = match &work {
                Work::Keys(some) => link.unlink(some),
                Work::Areas(identity) => self.sweep(link, keys, *identity),
            };
            if let Err(failure) = done {
                failed(&failure);
                self.again(work);
                let ends = |_: &mut State| !self.ends.load(Relaxed);
                let _ = self.changed.wait_timeout_while(self.state(), REST, ends);
            }
        }
    }

    fn next(&self) -> Option<Work> {
        let mut state = self.state();
        loop {
            if self.ends.load(Relaxed) {
                return None;
            }
            if !state.keys.is_empty() {
                let left = state.keys.len().saturating_sub(AT_ONCE);
                return Some(Work::Keys(state.keys.split_off(left)));
            }
            if let Some(identity) = state.only.take() {
                return Some(Work::Areas(identity));
            }
            let changed = self.changed.wait(state);
            state = changed.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn again(&self, work: Work) {
        let mut state = self.state();
        match work {
            Work::Keys(keys) => state.keys.extend(keys),
            // Unless there is another one by now.
            Work::Areas(identity) => {
                state.only.get_or_insert(identity);
            }
        }
    }

    /// Removes what other areas of the namespace have left.
    fn sweep(&self, link: &mut Link, keys: &Keys, identity: u64) -> Result<(), Failure> {
        let (all, first) = (keys.all(), keys.first());
        let (own, owner) = (keys.area(identity), keys.owner());
        for node in link.primaries()? {
            let mut cursor = "0".to_owned();
            // A cursor may never come back to its beginning.
            for _ in 0..STEPS {
                let words = ["SCAN", &cursor, "MATCH", &all, "COUNT", "1000"];
                let found = link.command_at(&node, &words.map(str::as_bytes))?;
                let Some((next, found)) = scanned(&found) else {
                    return Err(Failure::Odd(node, found.kind()));
                };
                let left = |key: &&str| {
                    let is_needed = key.starts_with(&own) || *key == owner;
                    key.starts_with(&first) && !is_needed
                };
                let found: Vec<&str> = found.into_iter().filter(left).collect();
                for some in found.chunks(AT_ONCE) {
                    link.unlink(some)?;
                }
                if self.ends.load(Relaxed) {
                    return Ok(());
                }
                if next == "0" {
                    break;
                }
                cursor = next.to_owned();
            }
        }
        Ok(())
    }

    /// Has [`Leftovers::work`] return.
    pub(crate) fn end(&self) {
        let state = self.state();
        self.ends.store(true, Relaxed);
        drop(state);
        self.changed.notify_all();
    }
}

enum Work {
    Keys(Vec<String>),
    Areas(u64),
}

/// What SCAN answers: where to go on, and keys.
fn scanned(answer: &Answer) -> Option<(&str, Vec<&str>)> {
    let Answer::Array(parts) = answer else {
        return None;
    };
    let [next, Answer::Array(keys)] = parts.as_slice() else {
        return None;
    };
    let next = next.text().filter(|next| next.len() <= LONGEST_CURSOR)?;
    Some((next, keys.iter().filter_map(Answer::text).collect()))
}
