// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is done next, and where: all from one generator.

use fastrand::Rng;
use std::ops::Range;

/// What can be done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Write,
    Read,
    DirectWrite,
    DirectRead,
    MapWrite,
    MapRead,
    Truncate,
    Punch,
    Zero,
    Allocate,
    Clone,
    Copy,
    Sync,
    Scan,
    Rename,
    Replace,
    Remove,
    Create,
    Reopen,
    Forget,
    DropCaches,
}

/// How often, relative to the others. What makes later reads go to the disk is
/// frequent: without it nothing below the page cache is tried.
const WEIGHTS: &[(Kind, u32)] = &[
    (Kind::Write, 180),
    (Kind::Read, 180),
    (Kind::DirectWrite, 90),
    (Kind::DirectRead, 120),
    (Kind::MapWrite, 60),
    (Kind::MapRead, 60),
    (Kind::Truncate, 30),
    (Kind::Punch, 40),
    (Kind::Zero, 40),
    (Kind::Allocate, 10),
    (Kind::Clone, 10),
    (Kind::Copy, 25),
    (Kind::Sync, 40),
    (Kind::Scan, 25),
    (Kind::Rename, 8),
    (Kind::Replace, 4),
    (Kind::Remove, 4),
    (Kind::Create, 8),
    (Kind::Reopen, 12),
    (Kind::Forget, 60),
    (Kind::DropCaches, 6),
];

/// Most bytes in one operation.
pub(super) const LARGEST: usize = 256 * 1024;

/// Picks by [`WEIGHTS`].
pub(super) fn kind(random: &mut Rng) -> Kind {
    let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut left = random.u32(0..total);
    for (kind, weight) in WEIGHTS {
        match left.checked_sub(*weight) {
            Some(less) => left = less,
            None => return *kind,
        }
    }
    Kind::Read
}

/// A part of a file of at most `size` bytes, of any alignment.
pub(super) fn part(random: &mut Rng, size: u64) -> Range<u64> {
    let largest = match random.u32(0..10) {
        0..=3 => 4096,
        4..=7 => 64 * 1024,
        _ => LARGEST as u64,
    };
    let length = random.u64(1..=largest.min(size.max(1)));
    let at = random.u64(0..=size.saturating_sub(length));
    match random.u32(0..10) {
        0..=4 => at..at + length,
        5..=6 => aligned(at, length, 512),
        _ => aligned(at, length, 4096),
    }
}

/// A part whose ends are multiples of what O_DIRECT wants: mostly a page,
/// sometimes a sector.
pub(super) fn direct_part(random: &mut Rng, size: u64) -> Range<u64> {
    let Range { start, end } = part(random, size);
    let unit = if random.u32(0..5) == 0 { 512 } else { 4096 };
    aligned(start, end - start, unit)
}

fn aligned(at: u64, length: u64, unit: u64) -> Range<u64> {
    let at = at / unit * unit;
    at..at + length.next_multiple_of(unit).min(LARGEST as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes() {
        let mut random = Rng::with_seed(1);
        let mut left: Vec<Kind> = WEIGHTS.iter().map(|(kind, _)| *kind).collect();
        for _ in 0..20_000 {
            let kind = kind(&mut random);
            left.retain(|other| *other != kind);
        }
        assert_eq!(left, []);
    }

    #[test]
    fn parts_are_short_enough_and_not_empty() {
        let mut random = Rng::with_seed(1);
        for size in [1, 511, 4096, 1 << 20] {
            for _ in 0..1000 {
                for part in [part(&mut random, size), direct_part(&mut random, size)] {
                    assert!(part.start < part.end && part.start < size);
                    assert!(part.end - part.start <= LARGEST as u64);
                }
                let part = direct_part(&mut random, size);
                assert_eq!((part.start % 512, part.end % 512), (0, 0));
            }
        }
    }
}
