// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How often a vCPU has touched memory that KVM had to find first, and how often
//! that was found (Linux, Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_ioctls::VcpuFd;

/// KVM_GET_STATS_FD: `_IO(0xae, 0xce)` (linux/kvm.h).
const GET_STATS_FD: libc::Ioctl = 0xaece;

/// Bytes of `kvm_stats_header`, and of `kvm_stats_desc` less the name.
const HEADER: usize = 24;
const DESCRIPTION: usize = 16;

/// More than there are, or their names have bytes.
const MOST: u32 = 4096;
const LONGEST: u32 = 256;

/// Faults, and what the counters of those are called that came to an end: the guest
/// goes on.
const TAKEN: &str = "pf_taken";
const RESOLVED: [&str; 4] = ["pf_fixed", "pf_emulate", "pf_spurious", "pf_fast"];

/// Faults of one or more vCPUs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) taken: u64,
    pub(super) resolved: u64,
}

/// The counters of a vCPU.
#[derive(Debug)]
pub(super) struct Faults {
    file: File,
    /// Where they are in it.
    taken: u64,
    resolved: Vec<u64>,
}

impl Faults {
    /// Those of `vcpu`; `None` on a host whose kernel has none (before Linux 5.14).
    pub(super) fn of(vcpu: &VcpuFd) -> Option<Self> {
        // SAFETY: the request takes no argument, and changes nothing but the
        // process's table of files.
        let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), GET_STATS_FD) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the kernel has just made this descriptor for the caller.
        let file = unsafe { File::from_raw_fd(fd) };
        Self::find(file)
    }

    /// Finds the counters in a file that begins with a `kvm_stats_header`.
    fn find(file: File) -> Option<Self> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).ok()?;
        let [name, count, descriptions, data] = [4, 8, 16, 20].map(|at| word(&header, at));
        let name = name.filter(|bytes| *bytes <= LONGEST)?;
        let count = count.filter(|count| *count <= MOST)?;
        let size = DESCRIPTION + usize::try_from(name).ok()?;
        let mut table = vec![0; size * usize::try_from(count).ok()?];
        file.read_exact_at(&mut table, descriptions?.into()).ok()?;
        let place = |wanted: &str| {
            let mut all = table.chunks_exact(size);
            let found = all.find(|one| {
                let name = one.get(DESCRIPTION..).unwrap_or_default();
                name.split(|byte| *byte == 0).next() == Some(wanted.as_bytes())
            })?;
            Some(u64::from(data?) + u64::from(word(found, 8)?))
        };
        Some(Self {
            taken: place(TAKEN)?,
            resolved: RESOLVED.iter().filter_map(|name| place(name)).collect(),
            file,
        })
    }

    /// The counters now.
    pub(super) fn count(&self) -> io::Result<Count> {
        let read = |at| -> io::Result<u64> {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, at)?;
            Ok(u64::from_ne_bytes(bytes))
        };
        let mut count = Count {
            taken: read(self.taken)?,
            resolved: 0,
        };
        for at in &self.resolved {
            count.resolved = count.resolved.saturating_add(read(*at)?);
        }
        Ok(count)
    }
}

fn word(from: &[u8], at: usize) -> Option<u32> {
    let bytes = from.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::host;
    use std::io::Write;

    /// A file as the kernel's, with these counters.
    fn file(counters: &[(&str, u64)]) -> File {
        let name_size = 48u32;
        let descriptions = 24 + name_size;
        let count = u32::try_from(counters.len()).unwrap();
        let data = descriptions + count * (16 + name_size);
        let mut bytes = Vec::new();
        for field in [0, name_size, count, 24, descriptions, data] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.resize(descriptions as usize, b'x');
        for ((name, _), offset) in counters.iter().zip((0u32..).step_by(8)) {
            bytes.extend([0, 0, 1]);
            bytes.extend([0; 4]);
            bytes.extend([0]);
            bytes.extend(offset.to_ne_bytes());
            bytes.extend([0; 4]);
            let mut name = name.as_bytes().to_vec();
            name.resize(name_size as usize, 0);
            bytes.extend(name);
        }
        for (_, value) in counters {
            bytes.extend(value.to_ne_bytes());
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let counters = [
            ("pf_taken_elsewhere", 1),
            ("pf_fixed", 2),
            ("exits", 4),
            ("pf_taken", 8),
            ("pf_emulate", 16),
        ];
        let faults = Faults::find(file(&counters)).unwrap();
        let expected = Count {
            taken: 8,
            resolved: 18,
        };
        assert_eq!(faults.count().unwrap(), expected);
    }

    #[test]
    fn files_that_make_no_sense_have_no_counters() {
        assert!(Faults::find(file(&[("pf_fixed", 1)])).is_none());
        assert!(Faults::find(tempfile::tempfile().unwrap()).is_none());
        for at in [4, 8, 16] {
            let file = file(&[("pf_taken", 1)]);
            file.write_all_at(&u32::MAX.to_ne_bytes(), at).unwrap();
            assert!(Faults::find(file).is_none(), "{at}");
        }
    }

    #[test]
    fn a_vcpu_of_this_host_has_them() {
        let Ok(kvm) = host::open() else {
            return;
        };
        let vm = kvm.create_vm().unwrap();
        let vcpu = vm.create_vcpu(0).unwrap();
        // Not before Linux 5.14.
        if let Some(faults) = Faults::of(&vcpu) {
            assert_eq!(faults.count().unwrap(), Count::default());
        }
    }
}
