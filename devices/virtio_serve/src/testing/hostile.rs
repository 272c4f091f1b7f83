// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a fuzzer has a driver of any device do to its memory and its ring.

use vm_memory::{Bytes as _, GuestAddress, GuestMemory};

use super::{Bytes, DriverQueue, Span};

/// Two regions of guest memory with a hole between them, and a third that is unaligned.
pub const REGIONS: [(GuestAddress, usize); 3] = [
    (GuestAddress(0), 0x1_0000),
    (GuestAddress(0x2_0000), 0x1_0000),
    (GuestAddress(0x4_0000), 0x801),
];

/// Does one of these commands with what follows in `data`; `false` if it is none of them.
///
/// | | then |
/// |---|---|
/// | 0 | guest memory: address u32, length u8, bytes |
/// | 1 | descriptor: place u8, address u64, length u32, flags u16, next u16 |
/// | 2 | available: head u16 |
/// | 3 | available index u16 |
pub fn hostile<M: GuestMemory>(
    command: u8,
    data: &mut Bytes<'_>,
    mem: &M,
    ring: &mut DriverQueue<'_, M>,
) -> bool {
    match command {
        0 => {
            let addr = GuestAddress(data.u32().into());
            let len = data.u8().into();
            // A driver may write outside its memory as well: to nothing.
            let _ = mem.write_slice(data.some(len), addr);
        }
        1 => {
            let at = u16::from(data.u8()) % ring.size();
            let span = Span {
                addr: data.u64(),
                len: data.u32(),
            };
            let flags = data.u16();
            ring.set_descriptor(at, span, flags, data.u16());
        }
        2 => ring.push(data.u16()),
        3 => ring.set_avail_idx(data.u16()),
        _ => return false,
    }
    true
}
