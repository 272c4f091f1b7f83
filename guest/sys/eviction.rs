// SPDX-License-Identifier: GPL-2.0

//! Pages of page cache that the kernel evicts: see evict.c.

use super::{
    bindings,
    content::Content, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

/// Who is told of evictions.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// A page is about to be evicted, which is clean and up to date, and which nobody can get at any
    /// more. `in_workingset` says whether the kernel would rather have kept it. With
    /// interrupts off and locks of the page cache held.
    fn evicted(&self, frame: u64, content: Content<'_>, in_workingset: bool);
}

/// Evictions are told until it is dropped, in process context.
pub(crate) struct Registration<W: Watcher> {
    evictions: KBox<bindings::tmem_evictions>,
    watcher: Arc<W>,
}

// SAFETY: It is only dropped, which any task may do.
unsafe impl<W: Watcher> Send for Registration<W> {}
// SAFETY: Nothing is changed through `&self`.
unsafe impl<W: Watcher> Sync for Registration<W> {}

impl<W: Watcher> Registration<W> {
    /// Has evictions told, of `most` pages of a folio at most.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` when the kernel does not tell; `ENOMEM`.
    pub(crate) fn new(watcher: Arc<W>, most: u32) -> Result<Self> {
        let evictions = bindings::tmem_evictions {
            most,
            evicted: Some(Self::evicted),
            data: Arc::as_ptr(&watcher).cast_mut().cast(),
        };
        let evictions = KBox::new(evictions, GFP_KERNEL)?;
        // SAFETY: The structure, and the watcher that it names, stay until nobody is told any more:
        // see `drop`.
        to_result(unsafe { bindings::tmem_evictions_register(&raw const *evictions) })?;
        Ok(Self { evictions, watcher })
    }

    /// Who is told.
    pub(crate) fn watcher(&self) -> &Arc<W> {
        &self.watcher
    }

    unsafe extern "C" fn evicted(
        data: *mut c_void,
        frame: c_ulong,
        content: *const c_void,
        in_workingset: bool,
    ) {
        // SAFETY: `data` is the watcher, which stays until nobody is told any more. The caller has
        // mapped a page at `content` until this returns.
        let (watcher, content) = unsafe { (&*data.cast::<W>(), Content::from_raw(content)) };
        watcher.evicted(frame as u64, content, in_workingset);
    }
}

impl<W: Watcher> Drop for Registration<W> {
    fn drop(&mut self) {
        // SAFETY: It was registered by `new`. After this nobody is told any more.
        unsafe { bindings::tmem_evictions_unregister(&raw const *self.evictions) };
    }
}
