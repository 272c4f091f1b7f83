// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Zstandard frames, for pages that are not used for long.

use std::cell::RefCell;

use zstd_safe::{CCtx, DCtx};

use crate::types::{PAGE_SIZE, Page};

/// A fifth slower than level 1 for pages that are 2 % smaller; from level 4 on, time
/// doubles for as much again.
const LEVEL: i32 = 3;

// Contexts are kept: making one allocates.
thread_local! {
    static COMPRESSOR: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// What `work` makes of the context; `None` if there is no memory for one.
fn with<C, T>(
    context: &mut Option<C>,
    create: impl FnOnce() -> Option<C>,
    work: impl FnOnce(&mut C) -> Option<T>,
) -> Option<T> {
    if context.is_none() {
        *context = create();
    }
    work(context.as_mut()?)
}

/// `None` if it does not get smaller, or there is no memory.
pub(super) fn compress<'a>(page: &Page, output: &'a mut Page) -> Option<&'a [u8]> {
    let to = output.as_mut_slice();
    let compressed = COMPRESSOR.try_with(|context| {
        let mut context = context.try_borrow_mut().ok()?;
        with(&mut *context, CCtx::try_create, |context| {
            context.compress(to, page, LEVEL).ok()
        })
    });
    output.get(..compressed.ok()??)
}

/// `None` unless the bytes decode to exactly one page.
pub(super) fn decompress(bytes: &[u8], page: &mut Page) -> Option<()> {
    let decompressed = DECOMPRESSOR.try_with(|context| {
        let mut context = context.try_borrow_mut().ok()?;
        with(&mut *context, DCtx::try_create, |context| {
            context.decompress(page.as_mut_slice(), bytes).ok()
        })
    });
    (decompressed.ok()?? == PAGE_SIZE).then_some(())
}
