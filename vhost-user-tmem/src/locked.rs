// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page memory that is not swapped out.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tmem_cli::size;
use tmem_store::Store;

/// Locks the store's page memory.
///
/// # Errors
/// A sentence that says what to do about it.
pub fn lock(store: &Store) -> Result<()> {
    let limit = getrlimit(Resource::Memlock);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Refused, it stays as it is.
    let _ = setrlimit(Resource::Memlock, raised);
    store.lock_memory().with_context(|| {
        let need = size::show(store.lockable_bytes());
        let may = limit.maximum.map_or_else(|| "as much as it wants".to_owned(), size::show);
        format!(
            "cannot lock the {need} of memory that the store can have; the process may lock {may}: \
             give it more (LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited), or a smaller \
             --memory-limit, or leave --lock-memory out"
        )
    })
}
