// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages as virtio-blk requests (VIRTIO 1.2, section 5.2.6).

use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};

use super::{Direction, Protocol, Request};

/// Sectors of 512 bytes in a page.
const SECTORS_PER_PAGE: u64 = 8;

/// Spells requests as virtio-blk does.
pub(super) struct Blk;

impl Protocol for Blk {
    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> (usize, usize) {
        (1, 0)
    }

    fn setup(&self) -> Option<Request> {
        None
    }

    fn request(&self, index: u64, write: bool) -> Request {
        let (kind, direction) = if write {
            (VIRTIO_BLK_T_OUT, Direction::Write)
        } else {
            (VIRTIO_BLK_T_IN, Direction::Read)
        };
        let mut header = Vec::with_capacity(16);
        header.extend(kind.to_le_bytes());
        header.extend([0; 4]);
        header.extend((index * SECTORS_PER_PAGE).to_le_bytes());
        Request {
            header,
            answer: 1,
            answer_first: false,
            page: Some(direction),
        }
    }

    fn is_ok(&self, answer: &[u8]) -> bool {
        answer
            .iter()
            .all(|status| u32::from(*status) == VIRTIO_BLK_S_OK)
    }
}
