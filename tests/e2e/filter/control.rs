// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl` in a guest.

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use tmem_e2e::Guest;
use tmem_e2e::Machine;

/// Attaches a filter to a block device.
pub(crate) fn attach<M: Machine>(guest: &Guest<M>, device: &str, kind: &str) -> Result<()> {
    guest
        .run(&format!("tmemctl attach {device} --kind {kind}"))
        .map(|_| ())
}

/// Detaches it.
pub(crate) fn detach<M: Machine>(guest: &Guest<M>, device: &str) -> Result<()> {
    guest.run(&format!("tmemctl detach {device}")).map(|_| ())
}

/// Has a program keep a block device open, until [`let_go`] or the end of the guest:
/// a filter leaves a disk that nobody uses.
pub(crate) fn hold<M: Machine>(guest: &Guest<M>, device: &str) -> Result<()> {
    guest
        .sh(&format!(
            "busybox sleep 100000 <{device} >/dev/null 2>&1 & echo $! >/user"
        ))
        .map(|_| ())
}

/// Ends the program that [`hold`] has started last, and waits until it has closed the
/// device.
pub(crate) fn let_go<M: Machine>(guest: &Guest<M>) -> Result<()> {
    let script = "user=$(cat /user); kill $user; \
                  while busybox grep -q 'State:[^Z]*$' /proc/$user/status 2>/dev/null; do \
                      busybox usleep 1000; \
                  done";
    guest.sh(script).map(|_| ())
}

/// How many filters there are.
pub(super) fn attached<M: Machine>(guest: &Guest<M>) -> Result<usize> {
    let status = bed::json(guest, "tmemctl status --json")?;
    let filters = status.get("filters").and_then(Value::as_array);
    Ok(filters.context("no filters in the status")?.len())
}

/// The sum of the numbers called `name`, over all filters.
pub(crate) fn total<M: Machine>(guest: &Guest<M>, name: &str) -> Result<u64> {
    let status = bed::json(guest, "tmemctl status --json")?;
    Ok(sum(&status, name))
}

fn sum(value: &Value, name: &str) -> u64 {
    match value {
        Value::Array(values) => values.iter().map(|value| sum(value, name)).sum(),
        Value::Object(fields) => {
            let one = |(key, value): (&String, &Value)| match value.as_u64() {
                Some(number) if key == name => number,
                _ => sum(value, name),
            };
            fields.iter().map(one).sum()
        }
        _ => 0,
    }
}
