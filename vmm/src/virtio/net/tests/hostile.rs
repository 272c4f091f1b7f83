// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver that means harm.

use proptest::prelude::*;

use super::*;
use crate::virtio::testing::hostile;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn registers_may_be_used_in_any_way(accesses in hostile::accesses()) {
        let memory = memory();
        let (tap, host) = socket();
        let guest = Guest::new(&memory, Net::new(tap, MAC).unwrap());
        hostile::misuse_registers(&guest, &accesses);
        check_alive(&guest, &host);
    }

    #[test]
    fn packets_to_send_may_be_anything(ring in hostile::rings(16)) {
        let memory = memory();
        let (tap, host) = socket();
        let guest = Guest::new(&memory, Net::new(tap, MAC).unwrap());
        hostile::misuse_queue(&guest, 1, &ring);
        check_alive(&guest, &host);
    }

    #[test]
    fn buffers_to_receive_may_be_anything(ring in hostile::rings(16)) {
        let memory = memory();
        let (tap, host) = socket();
        let net = Net::new(tap, MAC).unwrap();
        let stats = net.stats();
        let guest = Guest::new(&memory, net);
        // So that there are packets at every notification.
        let feeder = host.try_clone().unwrap();
        hostile::misuse_queue_with(&guest, 0, &ring, || {
            feeder.set_nonblocking(true).unwrap();
            for seed in 0..8 {
                let _ = feeder.send(&[header(0, 0), frame(seed, 300 * seed)].concat());
            }
        });
        check_alive(&guest, &host);
        prop_assert!(stats.received_packets.get() >= 1);
    }
}
