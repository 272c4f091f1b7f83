// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Address spaces: who answers at which address.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

/// Something that the guest's loads and stores, or `in` and `out`, reach.
/// Called by vCPU threads, several at a time.
pub trait BusDevice: Send + Sync {
    /// Fills `data` with what is at `offset`. The guest chose both the offset
    /// and the length (1 to 8 bytes).
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Takes what the guest wrote at `offset`.
    fn write(&self, offset: u64, data: &[u8]);
}

/// A range is taken already, or wraps.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the addresses {start:#x} to {start:#x} + {len:#x} are not free")]
pub struct Taken {
    /// First address.
    pub start: u64,
    /// Addresses.
    pub len: u64,
}

/// An address space. Built once, then only read.
#[derive(Default)]
pub struct Bus {
    /// By first address; the length beside the device.
    ranges: BTreeMap<u64, (u64, Arc<dyn BusDevice>)>,
}

impl Bus {
    /// Places `device` at `start..start + len`.
    ///
    /// # Errors
    /// When another device is there.
    pub fn insert(
        &mut self,
        start: u64,
        len: u64,
        device: Arc<dyn BusDevice>,
    ) -> Result<(), Taken> {
        let taken = Taken { start, len };
        let end = start.checked_add(len).ok_or(taken)?;
        let below = self.ranges.range(..end).next_back();
        if len == 0 || below.is_some_and(|(first, (size, _))| first + size > start) {
            return Err(taken);
        }
        self.ranges.insert(start, (len, device));
        Ok(())
    }

    /// Reads; what nobody answers reads as ones, as on a real bus.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((offset, device)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes; what nobody takes is dropped.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address) {
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64) -> Option<(u64, &dyn BusDevice)> {
        let (start, (len, device)) = self.ranges.range(..=address).next_back()?;
        let offset = address - start;
        (offset < *len).then_some((offset, &**device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Memory(Mutex<[u8; 8]>);

    impl BusDevice for Memory {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data[0] = self.0.lock().unwrap()[usize::try_from(offset).unwrap()];
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap()[usize::try_from(offset).unwrap()] = data[0];
        }
    }

    #[test]
    fn accesses_reach_the_device_at_their_address_and_no_other() {
        let mut bus = Bus::default();
        let (one, two) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
        bus.insert(0x100, 8, one.clone()).unwrap();
        bus.insert(0x108, 8, two.clone()).unwrap();
        bus.write(0x107, &[1]);
        bus.write(0x108, &[2]);
        bus.write(0x110, &[3]);
        bus.write(0xff, &[4]);
        assert_eq!(one.0.lock().unwrap()[7], 1);
        assert_eq!(*two.0.lock().unwrap(), [2, 0, 0, 0, 0, 0, 0, 0]);
        let mut data = [0];
        bus.read(0x107, &mut data);
        assert_eq!(data, [1]);
        bus.read(0x110, &mut data);
        assert_eq!(data, [0xff], "nobody answers there");
    }

    #[test]
    fn ranges_do_not_overlap() {
        let mut bus = Bus::default();
        let device = || Arc::new(Memory::default());
        bus.insert(0x100, 8, device()).unwrap();
        for (start, len) in [(0x107, 1), (0xff, 2), (0x100, 8), (0x80, 0x100), (0x200, 0)] {
            assert_eq!(bus.insert(start, len, device()), Err(Taken { start, len }));
        }
        assert!(bus.insert(u64::MAX, 2, device()).is_err());
    }
}
