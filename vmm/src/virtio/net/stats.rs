// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a network interface counts.

use crate::virtio::counters::counters;

counters! {
    /// Counters of one network interface.
    pub struct NetStats {
        received_packets: "Packets from the host that the guest got.",
        received_bytes: "Bytes of these packets.",
        receive_waits: "Times that a packet had to wait for the guest's buffers.",
        receive_dropped: "Packets from the host that did not fit the guest's buffers, or that it \
                          cannot take.",
        sent_packets: "Packets from the guest that the host got.",
        sent_bytes: "Bytes of these packets.",
        send_malformed: "Packets from the guest that make no sense: of a wrong length, or in need \
                         of work that was not agreed on.",
        send_failed: "Packets from the guest that the host's interface did not take.",
    }
}
