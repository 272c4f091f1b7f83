// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Waiting for a condition.

use anyhow::Result;
use anyhow::bail;
use std::time::Duration;
use std::time::Instant;

/// Between two looks at the condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks at `condition` until it gives something, for at most `limit`.
///
/// # Errors
/// Time is up (the error names `what`), or the condition itself fails.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
}
