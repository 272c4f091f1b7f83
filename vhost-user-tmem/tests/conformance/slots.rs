// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue with many requests under way, each in a slot of a part of guest memory.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::front_end::{AVAILABLE, FrontEnd, GUEST, USED};

/// Bytes of guest memory for a queue and its slots.
pub(crate) const BYTES: u64 = 1 << 20;
/// Requests under way at the same time, at most.
pub(crate) const MOST: u64 = 32;

const SIZE: u16 = 256;
/// Where the slots are, and the bytes of each.
const FIRST: u64 = 0x1_0000;
const SLOT: u64 = 0x3000;
/// Descriptors of a slot.
const CHAIN: u16 = 4;

/// Bytes in a part of guest memory, as a descriptor names them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    offset: u64,
    bytes: u32,
    flags: u16,
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;

impl Buffer {
    /// Device-readable.
    pub(crate) fn readable(offset: u64, bytes: u32) -> Self {
        let flags = 0;
        Self {
            offset,
            bytes,
            flags,
        }
    }

    /// Device-writable.
    pub(crate) fn writable(offset: u64, bytes: u32) -> Self {
        let flags = WRITE;
        Self {
            offset,
            bytes,
            flags,
        }
    }
}

pub(crate) struct Slots {
    memory: File,
    kick: OwnedFd,
    /// Where its part of guest memory is.
    at: u64,
    next: u16,
    /// Requests that were laid and not waited for yet.
    laid: u16,
    /// How long they may take.
    patience: Duration,
}

impl Slots {
    /// On this queue of the front end's, in the part of guest memory from `at` on; starts it.
    pub(crate) fn start(front_end: &mut FrontEnd, queue: u32, at: u64) -> Self {
        front_end.turn_to(queue, at);
        front_end.start();
        Self {
            memory: front_end.memory.try_clone().unwrap(),
            kick: front_end.kick_event(),
            at,
            next: 0,
            laid: 0,
            patience: Duration::from_secs(60),
        }
    }

    /// The queue has been used for that many requests.
    pub(crate) fn with_next(self, next: u16) -> Self {
        Self { next, ..self }
    }

    /// Requests may take so long.
    #[allow(dead_code, reason = "some wait for a device that is held")]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where a slot begins.
    pub(crate) fn place(slot: u16) -> u64 {
        FIRST + SLOT * u64::from(slot)
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, self.at + offset).unwrap();
    }

    pub(crate) fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        let offset = self.at + offset;
        self.memory.read_exact_at(&mut read, offset).unwrap();
        read
    }

    fn used(&self) -> u16 {
        u16::from_le_bytes(self.read(USED + 2, 2).try_into().unwrap())
    }

    /// Puts the request of the next slot, from the first on, into the available ring.
    pub(crate) fn lay(&mut self, chain: &[Buffer]) {
        let first = CHAIN * self.laid;
        for (nth, buffer) in (first..).zip(chain) {
            let is_last = usize::from(nth - first) == chain.len() - 1;
            let flags = buffer.flags | if is_last { 0 } else { NEXT };
            let mut descriptor = (GUEST + self.at + buffer.offset).to_le_bytes().to_vec();
            descriptor.extend(buffer.bytes.to_le_bytes());
            descriptor.extend(flags.to_le_bytes());
            descriptor.extend((nth + 1).to_le_bytes());
            self.write(16 * u64::from(nth), &descriptor);
        }
        let entry = AVAILABLE + 4 + 2 * u64::from(self.next % SIZE);
        self.write(entry, &first.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        self.laid += 1;
    }

    /// Makes what was laid available and waits until it is used: in order, and each once.
    #[allow(dead_code, reason = "some do other things in between")]
    pub(crate) fn run(&mut self) {
        self.begin();
        self.finish();
    }

    /// Makes what was laid available.
    pub(crate) fn begin(&self) {
        self.write(AVAILABLE + 2, &self.next.to_le_bytes());
        rustix::io::write(&self.kick, &1u64.to_ne_bytes()).unwrap();
    }

    /// Waits until what was laid is used: in order, and each once.
    pub(crate) fn finish(&mut self) {
        let deadline = Instant::now() + self.patience;
        while self.used() != self.next {
            assert!(Instant::now() < deadline, "requests are not answered");
            std::thread::sleep(Duration::from_micros(100));
        }
        let first = self.next.wrapping_sub(self.laid);
        for nth in 0..std::mem::take(&mut self.laid) {
            let entry = USED + 4 + 8 * u64::from(first.wrapping_add(nth) % SIZE);
            let head = self.read(entry, 4);
            assert_eq!(head, u32::from(CHAIN * nth).to_le_bytes(), "what was used");
        }
    }
}
