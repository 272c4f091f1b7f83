// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who is told of evictions.

use super::content::Content;

pub(crate) trait Watcher {
    fn evicted(&self, frame: u64, content: Content<'_>, in_workingset: bool);
}
