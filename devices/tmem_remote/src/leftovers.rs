// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the cluster has that nobody needs: segments that are needed no longer, and areas of daemons
//! that are gone.

use crate::key::Keys;
use crate::link::{Failure, Link};
use redis::Value;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Keys that are removed before the next are looked for.
const AT_ONCE: usize = 64;

/// How long the thread rests when the cluster does not answer.
const REST: Duration = Duration::from_secs(1);

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
                Work::Keys(some) => some.iter().try_for_each(|key| unlink(link, key)),
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
        let (all, own, owner) = (keys.all(), keys.area(identity), keys.owner());
        for (host, port) in primaries(link)? {
            let mut cursor = "0".to_owned();
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(&cursor)
                    .arg("MATCH")
                    .arg(&all)
                    .arg("COUNT")
                    .arg(1000);
                let found = link.command_at((&host, port), &scan)?;
                let Some((next, found)) = scanned(&found) else {
                    return Err(link.odd(&found));
                };
                for key in found
                    .iter()
                    .filter(|key| !key.starts_with(&own) && **key != owner)
                {
                    unlink(link, key)?;
                    if self.ends.load(Relaxed) {
                        return Ok(());
                    }
                }
                if next == "0" {
                    break;
                }
                cursor = next;
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

fn unlink(link: &mut Link, key: &str) -> Result<(), Failure> {
    let mut command = redis::cmd("UNLINK");
    link.command(command.arg(key)).map(|_| ())
}

/// Where the nodes are that have keys of their own.
fn primaries(link: &mut Link) -> Result<Vec<(String, u16)>, Failure> {
    let mut slots = redis::cmd("CLUSTER");
    let answer = link.command(slots.arg("SLOTS"))?;
    let Value::Array(ranges) = &answer else {
        return Err(link.odd(&answer));
    };
    let mut nodes: Vec<(String, u16)> = ranges.iter().filter_map(primary).collect();
    for (host, _) in nodes.iter_mut().filter(|(host, _)| host.is_empty()) {
        link.only_host().clone_into(host);
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

/// The first node of a range of slots: `[first, last, [host, port, …], …]`.
fn primary(range: &Value) -> Option<(String, u16)> {
    let Value::Array(range) = range else {
        return None;
    };
    let Value::Array(node) = range.get(2)? else {
        return None;
    };
    let [host, Value::Int(port), ..] = node.as_slice() else {
        return None;
    };
    Some((text(host).unwrap_or_default(), u16::try_from(*port).ok()?))
}

/// What SCAN answers: where to go on, and keys.
fn scanned(answer: &Value) -> Option<(String, Vec<String>)> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [next, Value::Array(keys)] = parts.as_slice() else {
        return None;
    };
    Some((text(next)?, keys.iter().filter_map(text).collect()))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}
