// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How much of a file the page cache has.

use anyhow::Context;
use anyhow::Result;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use std::fs::File;
use std::path::Path;

const PAGE: usize = 4096;

/// Bytes of the file `path` that are in this machine's page cache.
pub(crate) fn bytes(path: &Path) -> Result<u64> {
    let cannot = || format!("cannot look into {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let length = usize::try_from(file.metadata().with_context(cannot)?.len())?;
    if length == 0 {
        return Ok(0);
    }
    // SAFETY: A new mapping, where the kernel likes; its memory is never touched.
    let memory = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            length,
            ProtFlags::READ,
            MapFlags::SHARED,
            &file,
            0,
        )
    }
    .with_context(cannot)?;
    let mut pages = vec![0_u8; length.div_ceil(PAGE)];
    // SAFETY: The mapping is there, and the vector has a byte for each of its pages.
    let done = unsafe { libc::mincore(memory, length, pages.as_mut_ptr()) };
    let error = std::io::Error::last_os_error();
    // SAFETY: It was mapped above, and nothing refers to it.
    unsafe { rustix::mm::munmap(memory, length) }.with_context(cannot)?;
    if done != 0 {
        return Err(error).with_context(cannot);
    }
    let present = pages.iter().filter(|page| **page & 1 == 1).count();
    Ok((present * PAGE) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_there() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(bytes(file.path()).unwrap(), 0);
        std::fs::write(file.path(), vec![1; 10_000]).unwrap();
        assert_eq!(bytes(file.path()).unwrap(), 3 * 4096);
    }
}
