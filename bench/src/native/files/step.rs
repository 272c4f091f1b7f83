// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is done in a round, and in which order.

use super::counts::Source;

/// Bytes of a piece of a file that is read in order: as many as a copying program takes.
const IN_ORDER: usize = 128 << 10;

/// What stands between the files and the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Alone,
    Precache,
    Victim,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Alone, Self::Precache, Self::Victim];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alone => "disk alone",
            Self::Precache => "precache",
            Self::Victim => "victim",
        }
    }

    /// The filter, as `tmemctl` calls it.
    pub(super) fn filter(self) -> Option<&'static str> {
        match self {
            Self::Alone => None,
            Self::Precache => Some("precache"),
            Self::Victim => Some("victim"),
        }
    }

    /// The steps, in order; before each of them the guest's page cache is emptied.
    pub(super) fn steps(self) -> &'static [Step] {
        match self {
            Self::Alone => &[FIRST, SECOND, SMALL, LARGE],
            Self::Precache => &[FIRST, SECOND, AGAIN, SMALL_AGAIN, LARGE_AGAIN],
            // What is noted at the first reading is put when it is evicted.
            Self::Victim => &[FIRST, AGAIN, SMALL_AGAIN, LARGE_AGAIN],
        }
    }
}

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// All of them, each from its start to its end.
    InOrder,
    /// Pieces of so many KiB, from random places.
    Pieces(usize),
}

impl Reads {
    /// Bytes of a piece, and how many of them; all, if 0.
    pub(super) fn pieces(self, count: usize) -> (usize, usize) {
        match self {
            Self::InOrder => (IN_ORDER, 0),
            Self::Pieces(kib) => (kib << 10, count),
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) reads: Reads,
    /// From where nearly all of it is to come.
    pub(super) source: Source,
}

pub(super) const FIRST: Step = Step {
    name: "in order, first time",
    reads: Reads::InOrder,
    source: Source::Any,
};
pub(super) const SECOND: Step = Step {
    name: "in order, second time",
    ..FIRST
};
const SMALL: Step = Step {
    name: "pieces of 4 KiB",
    reads: Reads::Pieces(4),
    source: Source::Any,
};
const LARGE: Step = Step {
    name: "pieces of 16 KiB",
    reads: Reads::Pieces(16),
    source: Source::Any,
};
pub(super) const AGAIN: Step = Step {
    name: "in order, from the host",
    reads: Reads::InOrder,
    source: Source::Host,
};
pub(super) const SMALL_AGAIN: Step = Step {
    name: "4 KiB, from the host",
    reads: Reads::Pieces(4),
    source: Source::Host,
};
const LARGE_AGAIN: Step = Step {
    name: "16 KiB, from the host",
    reads: Reads::Pieces(16),
    source: Source::Host,
};

impl Step {
    /// The step of the disk alone that this is compared with: the same, or the last that reads
    /// alike.
    pub(super) fn beside(&self) -> Option<usize> {
        let alone = Way::Alone.steps();
        let same = alone.iter().position(|step| step == self);
        same.or_else(|| alone.iter().rposition(|step| step.reads == self.reads))
    }
}

/// The ways, each round from another one on: what gets slower in a round does so for all.
pub(super) fn in_turn(round: u64) -> [Way; 3] {
    let mut ways = Way::ALL;
    ways.rotate_left((round % 3) as usize);
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_compared_with_one_that_reads_alike() {
        let alone = Way::Alone.steps();
        for step in Way::ALL.iter().flat_map(|way| way.steps()) {
            let beside = alone[step.beside().unwrap()];
            assert_eq!(beside.reads, step.reads, "{}", step.name);
            assert_eq!(beside.source, Source::Any);
        }
        assert_eq!(SECOND.beside(), Some(1));
        assert_eq!(AGAIN.beside(), Some(1));
    }

    #[test]
    fn every_way_is_once_the_first() {
        let firsts: Vec<_> = (0..3).map(|round| in_turn(round)[0]).collect();
        assert_eq!(firsts, Way::ALL);
    }
}
