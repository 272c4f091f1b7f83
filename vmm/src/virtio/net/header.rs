// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What stands before each packet (virtio 1.2, section 5.1.6): flags, kind of
//! segmentation, then 16-bit fields, of which the last says how many buffers
//! the packet takes. Tap and driver use the same.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_HDR_F_DATA_VALID,
    VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
};

/// Bytes of it.
pub(super) const LEN: usize = 12;

/// Flags, which are one byte: the checksum is unfinished; it was found right.
const NEEDS_CSUM: u8 = VIRTIO_NET_HDR_F_NEEDS_CSUM.to_le_bytes()[0];
const DATA_VALID: u8 = VIRTIO_NET_HDR_F_DATA_VALID.to_le_bytes()[0];

/// What each of two ends leaves to the other: the feature bits that allow it.
struct Offload {
    checksum: u32,
    tso4: u32,
    tso6: u32,
}

const TO_GUEST: Offload = Offload {
    checksum: VIRTIO_NET_F_GUEST_CSUM,
    tso4: VIRTIO_NET_F_GUEST_TSO4,
    tso6: VIRTIO_NET_F_GUEST_TSO6,
};

const TO_HOST: Offload = Offload {
    checksum: VIRTIO_NET_F_CSUM,
    tso4: VIRTIO_NET_F_HOST_TSO4,
    tso6: VIRTIO_NET_F_HOST_TSO6,
};

impl Offload {
    /// Whether a packet with these flags and this segmentation may go.
    fn allows(&self, features: u64, flags: u8, gso: u8) -> bool {
        let has = |bit: u32| features & 1 << bit != 0;
        let unfinished = flags & NEEDS_CSUM != 0;
        let checksum = has(self.checksum) || !unfinished;
        checksum
            && match u32::from(gso) {
                VIRTIO_NET_HDR_GSO_NONE => true,
                VIRTIO_NET_HDR_GSO_TCPV4 => unfinished && has(self.tso4),
                VIRTIO_NET_HDR_GSO_TCPV6 => unfinished && has(self.tso6),
                _ => false,
            }
    }
}

/// Makes the header of a packet from the tap one for the guest's `features`.
/// `false` if the guest cannot take the packet.
pub(super) fn to_guest(header: &mut [u8; LEN], features: u64) -> bool {
    let [flags, gso, ..] = header;
    if !TO_GUEST.allows(features, *flags, *gso) {
        return false;
    }
    *flags &= if features & 1 << VIRTIO_NET_F_GUEST_CSUM != 0 {
        NEEDS_CSUM | DATA_VALID
    } else {
        0
    };
    true
}

/// Makes the header of a packet from the guest one for the tap. `false` if
/// it asks for work that was not agreed on.
pub(super) fn to_host(header: &mut [u8; LEN], features: u64) -> bool {
    let [flags, gso, ..] = header;
    // What is not known is to be ignored.
    *flags &= NEEDS_CSUM;
    TO_HOST.allows(features, *flags, *gso)
}

/// Sets how many buffers the packet takes.
pub(super) fn set_buffers(header: &mut [u8; LEN], buffers: u16) {
    let [.., low, high] = header;
    [*low, *high] = buffers.to_le_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = u64::MAX;
    /// CSUM, HOST_TSO6, GUEST_CSUM, GUEST_TSO6.
    const SOME: u64 = 1 | 1 << 12 | 1 << 1 | 1 << 8;

    fn header(flags: u8, gso: u8) -> [u8; LEN] {
        let mut header = [7; LEN];
        header[..2].copy_from_slice(&[flags, gso]);
        header
    }

    #[test]
    fn only_work_that_was_agreed_on_is_left_to_the_other() {
        for (features, flags, gso, allowed) in [
            (0, 0, 0, true),
            (0, 1, 0, false),
            (0, 1, 1, false),
            (SOME, 1, 0, true),
            (SOME, 1, 1, false),
            (SOME, 1, 4, true),
            (SOME, 0, 4, false),
            (ALL, 1, 1, true),
            (ALL, 1, 3, false),
            (ALL, 1, 5, false),
            (ALL, 1, 0x81, false),
            (ALL, 1, 0xff, false),
        ] {
            let case = format!("{features:#x} {flags} {gso}");
            assert_eq!(
                to_host(&mut header(flags, gso), features),
                allowed,
                "{case}"
            );
            assert_eq!(
                to_guest(&mut header(flags, gso), features),
                allowed,
                "{case}"
            );
        }
    }

    #[test]
    fn flags_that_the_other_does_not_know_are_cleared() {
        let mut sent = header(0xff, 0);
        assert!(to_host(&mut sent, ALL));
        assert_eq!(sent, header(1, 0));
        let mut received = header(0xff, 0);
        assert!(to_guest(&mut received, ALL));
        assert_eq!(received, header(3, 0));
        let mut received = header(0xfe, 0);
        assert!(to_guest(&mut received, 0));
        assert_eq!(received, header(0, 0));
    }

    #[test]
    fn the_number_of_buffers_is_the_last_field() {
        let mut header = [0; LEN];
        set_buffers(&mut header, 0x1234);
        assert_eq!(header[9..], [0, 0x34, 0x12]);
    }
}
