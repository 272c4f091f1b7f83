// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a machine asks for that is in the way of others.

use virtio_tmem::wire::{AnswerHeader, Op, PoolKind, PoolSpec, RequestFlags, RequestHeader};

use super::{Direction, Protocol, Request, Tmem};

/// Pools: one persistent, one ephemeral.
const POOLS: [PoolKind; 2] = [PoolKind::Persistent, PoolKind::Ephemeral];

/// Requests that keep the machine at its quota: puts at random places, and flushes of whole
/// objects. The number of a request says what it is; whatever the answer is, it is right.
pub(crate) struct Neighbour {
    /// A part of them makes no sense, and pools come and go.
    pub(crate) is_hostile: bool,
}

impl Neighbour {
    /// Bytes of an answer to a request of one page.
    const ANSWER: usize = AnswerHeader::SIZE + 1;

    fn create(nth: u8) -> Request {
        let (pool, kind) = if nth == 0 {
            (0, POOLS[0])
        } else {
            (1, POOLS[1])
        };
        let spec = PoolSpec::own(kind);
        let mut header = header(Op::CreatePool, pool, 0, (0, 0));
        header.extend(spec.encode());
        without_page(header)
    }
}

fn header(op: Op, pool: u32, object: u8, (index, count): (u64, u32)) -> Vec<u8> {
    let header = RequestHeader {
        op: op as u16,
        flags: RequestFlags::default(),
        pool,
        object: [object; 24],
        index,
        count,
    };
    header.encode().to_vec()
}

fn without_page(header: Vec<u8>) -> Request {
    Request {
        header,
        answer: Neighbour::ANSWER,
        answer_first: true,
        page: None,
    }
}

impl Protocol for Neighbour {
    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> (usize, usize) {
        Tmem.queues()
    }

    fn setup(&self) -> Option<Request> {
        None
    }

    fn request(&self, index: u64, _write: bool) -> Request {
        // Alike for numbers that are near each other, and not for what it says.
        let mixed = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let [what, which, object, ..] = mixed.to_be_bytes();
        let (pool, object) = (u32::from(which % 2), object % 64);
        match what {
            0..4 => without_page(header(Op::FlushObject, pool, object, (0, 0))),
            4..8 => Self::create(which % 2),
            8..12 if self.is_hostile => without_page(header(Op::DestroyPool, 1, 0, (0, 0))),
            12..76 if self.is_hostile => without_page(mixed.to_le_bytes().repeat(6)),
            _ => Request {
                header: header(Op::Put, pool, object, (mixed & 0xffff_ffff, 1)),
                answer: Self::ANSWER,
                answer_first: true,
                page: Some(Direction::Write),
            },
        }
    }

    fn is_ok(&self, _answer: &[u8]) -> bool {
        true
    }
}
