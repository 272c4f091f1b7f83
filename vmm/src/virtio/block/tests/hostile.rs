// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver that means harm.

use proptest::prelude::*;

use super::*;
use crate::virtio::testing::hostile;

/// Another driver can use the disk.
fn check_alive(guest: &Guest<'_>) {
    guest.negotiate(guest.features());
    guest.seek(0x1000);
    let mut queue = guest.queue(0, 256, true);
    guest.run();
    let header = guest.put(&header(IN, 1));
    let space = guest.space(513);
    queue.add(&[header], &[space]).unwrap();
    guest.kick(0, &mut queue);
    assert_eq!(guest.used(&mut queue).len, 513);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn registers_may_be_used_in_any_way(accesses in hostile::accesses()) {
        let (image, memory) = (Image::new(), memory());
        let guest = Guest::new(&memory, Block::new("vda", image.disk()).virtio().unwrap());
        hostile::misuse_registers(&guest, &accesses);
        check_alive(&guest);
    }

    #[test]
    fn chains_may_be_anything(ring in hostile::rings(16)) {
        let (image, memory) = (Image::new(), memory());
        let guest = Guest::new(&memory, Block::new("vda", image.disk()).virtio().unwrap());
        hostile::misuse_queue(&guest, 0, &ring);
        prop_assert_eq!(image.file.metadata().unwrap().len(), SIZE);
        check_alive(&guest);
    }
}
