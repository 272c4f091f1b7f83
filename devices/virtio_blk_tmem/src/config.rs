// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a disk is made from.

/// A swap header that is there before anybody has written one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapHeader {
    /// Label; the first 16 bytes count.
    pub label: String,
    /// UUID, in the order in which it is written down.
    pub uuid: [u8; 16],
}

/// What a [`Disk`](crate::Disk) is made from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskConfig {
    /// For people: reports carry it.
    pub name: String,
    /// Bytes; what is not a whole block does not count.
    pub bytes: u64,
    /// Request queues.
    pub queues: u16,
    /// What block 0 has until the guest writes it; `None`: zeros.
    pub swapspace: Option<SwapHeader>,
    /// What the driver is told when it asks for an id. In Linux: `/sys/block/vdb/serial`.
    pub serial: [u8; 20],
}

impl DiskConfig {
    /// A disk of so many bytes with one queue, no swap header and a serial number that begins
    /// like its name.
    pub fn new(name: impl Into<String>, bytes: u64) -> Self {
        let name = name.into();
        let mut serial = [0; 20];
        for (to, from) in serial.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Self {
            name,
            bytes,
            queues: 1,
            swapspace: None,
            serial,
        }
    }

    /// The same disk with so many request queues, at least one.
    #[must_use]
    pub fn with_queues(mut self, queues: u16) -> Self {
        self.queues = queues.max(1);
        self
    }

    /// The same disk with a swap header.
    #[must_use]
    pub fn with_swapspace(mut self, header: SwapHeader) -> Self {
        self.swapspace = Some(header);
        self
    }

    /// The same disk with another serial number.
    #[must_use]
    pub fn with_serial(mut self, serial: [u8; 20]) -> Self {
        self.serial = serial;
        self
    }
}
