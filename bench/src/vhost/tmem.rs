// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages as virtio-tmem requests: one persistent pool, one object.

use virtio_tmem::wire::{
    AnswerHeader, FIRST_REQUEST_QUEUE, Op, PoolKind, PoolSpec, RequestFlags, RequestHeader,
};

use super::{Direction, Protocol, Request};

/// Spells requests as `spec/` sections 5 and 6 do.
pub(crate) struct Tmem;

fn header(op: Op, index: u64, count: u32) -> RequestHeader {
    RequestHeader {
        op: op as u16,
        flags: RequestFlags::default(),
        pool: 0,
        object: [0; 24],
        index,
        count,
    }
}

impl Protocol for Tmem {
    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> (usize, usize) {
        let requests = usize::from(FIRST_REQUEST_QUEUE);
        (requests + 1, requests)
    }

    fn setup(&self) -> Option<Request> {
        let spec = PoolSpec::own(PoolKind::Persistent);
        let mut bytes = header(Op::CreatePool, 0, 0).encode().to_vec();
        bytes.extend(spec.encode());
        Some(Request {
            header: bytes,
            answer: AnswerHeader::SIZE,
            answer_first: true,
            page: None,
        })
    }

    fn request(&self, index: u64, write: bool) -> Request {
        let (op, direction) = if write {
            (Op::Put, Direction::Write)
        } else {
            (Op::Get, Direction::Read)
        };
        Request {
            header: header(op, index, 1).encode().to_vec(),
            answer: AnswerHeader::SIZE + 1,
            answer_first: true,
            page: Some(direction),
        }
    }

    fn is_ok(&self, answer: &[u8]) -> bool {
        let Some((head, statuses)) = answer.split_first_chunk() else {
            return false;
        };
        AnswerHeader::decode(head).status.is_ok()
            && statuses
                .iter()
                .all(|status| virtio_tmem::wire::Status(*status).is_ok())
    }
}
