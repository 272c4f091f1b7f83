// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver that means harm.

use proptest::prelude::*;

use super::*;
use crate::virtio::testing::hostile;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn registers_may_be_used_in_any_way(accesses in hostile::accesses()) {
        let (image, memory) = (Image::new(), memory());
        let guest = Guest::new(&memory, Block::new("vda", image.disk()).unwrap());
        hostile::misuse_registers(&guest, &accesses);
    }

    #[test]
    fn chains_may_be_anything(ring in hostile::rings(16)) {
        let (image, memory) = (Image::new(), memory());
        let block = Block::new("vda", image.disk()).unwrap();
        let guest = Guest::new(&memory, block);
        hostile::misuse_queue(&guest, 0, &ring);
        prop_assert_eq!(image.file.metadata().unwrap().len(), SIZE);
        // Another driver can still use the disk.
        guest.negotiate(guest.features());
        guest.seek(0x1000);
        let mut queue = guest.queue(0, 256, true);
        guest.run();
        let header = guest.put(&header(IN, 1));
        let space = guest.space(513);
        queue.add(&[header], &[space]).unwrap();
        guest.kick(0, &mut queue);
        prop_assert_eq!(guest.used(&mut queue).len, 513);
    }
}
