// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of a guest that devices may use, with queues that make little sense.

/// Bytes of it, and where its parts begin: descriptors, then
/// available rings, used rings, and buffers.
pub(super) const SCRATCH: u64 = 0x1_0000;
pub(super) const AVAILABLE: u64 = 0x4000;
pub(super) const USED: u64 = 0x5000;
pub(super) const BUFFERS: u64 = 0x6000;

/// Descriptors of a queue, and bytes from one ring to the next.
pub(super) const SIZE: u64 = 16;
pub(super) const STRIDE: u64 = 0x100;

/// Numbers that look random (xorshift64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.roll() >> 16) % end
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// The content of the scratch memory at `at`.
pub(super) fn scratch(dice: &mut Dice, at: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < AVAILABLE {
        // Mostly a buffer, but perhaps what the device works with, or nothing.
        let address = match dice.below(16) {
            0 => dice.roll() | 1 << 31,
            1 => at + dice.below(SCRATCH),
            _ => at + BUFFERS + dice.below((SCRATCH - BUFFERS) / 16) * 16,
        };
        let len = dice.one_of(&[1, 16, 17, 48, 80, 512, 4096, 0xffff_ffff]);
        let flags = dice.one_of(&[0, 1, 1, 1, 2, 3, 3, 4, 5, 0xffff]);
        let next = dice.below(SIZE + 1);
        let rest = len | flags << 32 | next << 48;
        bytes.extend([address, rest].into_iter().flat_map(u64::to_le_bytes));
    }
    while (bytes.len() as u64) < USED {
        let more_than_there_are = dice.below(8) == 0;
        let index = if more_than_there_are { 0xfff0 } else { SIZE };
        let mut ring = vec![0, 0];
        ring.extend((index as u16).to_le_bytes());
        ring.extend((0..SIZE).flat_map(|_| (dice.below(SIZE + 1) as u16).to_le_bytes()));
        ring.resize(STRIDE as usize, 0);
        bytes.extend(ring);
    }
    bytes.resize(BUFFERS as usize, 0);
    // What requests begin with: a kind, and a number.
    while (bytes.len() as u64) < SCRATCH {
        let words = [dice.below(16), dice.below(16)];
        bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
    }
    bytes
}
