// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the messages of a front end do, as the vhost crate has parsed them.
//!
//! The vhost-user-backend crate does this, too, but only on a thread that waits for one
//! connection. Traits of its are what stands on both sides of this.

use std::fs::File;
use std::io;
use std::sync::Arc;

use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use vhost_user_backend::{VhostUserBackend, VringT};
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryMmap, GuestRegionMmap};

use super::backend::Backend;
use super::served::MOST_REGIONS;
use super::vring::Vring;
use crate::vm::Memory;

/// The device, towards the messages of one front end.
pub(super) struct Requests {
    backend: Arc<Backend>,
    vrings: Vec<Vring<Memory>>,
    /// What the front end announces; queues use it only when it is watched over.
    announced: Memory,
    mappings: Vec<Mapping>,
    is_owned: bool,
    features: u64,
}

/// Where a region of memory is, for the front end and for the guest.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    user: u64,
    guest: u64,
    bytes: u64,
}

impl Mapping {
    fn of(region: &VhostUserMemoryRegion) -> Self {
        Self {
            user: region.user_addr,
            guest: region.guest_phys_addr,
            bytes: region.memory_size,
        }
    }

    fn guest(&self, user: u64) -> Option<u64> {
        let inside = user.checked_sub(self.user)?;
        (inside < self.bytes).then(|| self.guest.checked_add(inside))?
    }
}

/// An error of ours, as the vhost crate has it.
fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::ReqHandlerError(io::Error::other(error))
}

fn map(region: &VhostUserMemoryRegion, file: File) -> Result<GuestRegionMmap> {
    let mapped = region.mmap_region(file)?;
    GuestRegionMmap::new(mapped, GuestAddress(region.guest_phys_addr))
        .ok_or_else(|| failed("a region of memory ends beyond the last address"))
}

impl Requests {
    /// Of a front end that has said nothing yet.
    ///
    /// # Errors
    /// When there is no memory for a queue.
    pub(super) fn new(backend: Arc<Backend>) -> Result<Self> {
        let announced = Memory::new(GuestMemoryMmap::new());
        let most = u16::try_from(backend.max_queue_size()).unwrap_or(u16::MAX);
        let vrings = (0..backend.num_queues())
            .map(|_| Vring::new(announced.clone(), most).map_err(|error| failed(error.to_string())))
            .collect::<Result<_>>()?;
        Ok(Self {
            backend,
            vrings,
            announced,
            mappings: Vec::new(),
            is_owned: false,
            features: 0,
        })
    }

    /// Its queues, in their order.
    pub(super) fn vrings(&self) -> Vec<Vring<Memory>> {
        self.vrings.clone()
    }

    fn vring(&self, index: u32) -> Result<&Vring<Memory>> {
        let index = usize::try_from(index).ok();
        index
            .and_then(|index| self.vrings.get(index))
            .ok_or(Error::InvalidParam)
    }

    /// Uses other memory from now on.
    fn announce(&self, memory: GuestMemoryMmap) -> Result<()> {
        let place = self.announced.lock();
        let place = place.map_err(|_| failed("a thread panicked that changed memory"))?;
        place.replace(memory);
        let followed = self.backend.update_memory(self.announced.clone());
        followed.map_err(Error::ReqHandlerError)
    }

    fn guest(&self, user: u64) -> Result<u64> {
        let mut found = self.mappings.iter().filter_map(|it| it.guest(user));
        found
            .next()
            .ok_or_else(|| failed("an address is in no region of memory"))
    }

    /// A queue that is disabled stands still as if it were stopped. User-Mode Linux stops none:
    /// when its driver resets the device, it disables the queues and sets them up anew.
    fn disable(&self, index: u32) -> Result<()> {
        self.vring(index)?.set_enabled(false);
        self.stands_still(index)
    }

    fn stands_still(&self, index: u32) -> Result<()> {
        let stopped = self.backend.stop_vring(index);
        stopped.map_err(Error::ReqHandlerError)
    }

    /// A queue starts when it has a kick.
    fn start(vring: &Vring<Memory>) {
        let starts = {
            let state = vring.get_ref();
            !state.get_queue().ready() && state.get_kick().is_some()
        };
        if starts {
            vring.set_queue_ready(true);
        }
    }
}

impl VhostUserBackendReqHandlerMut for Requests {
    fn set_owner(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_owned, true) {
            return Err(Error::InvalidOperation("already claimed"));
        }
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.is_owned = false;
        self.features = 0;
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        for index in (0..).take(self.vrings.len()) {
            self.disable(index)?;
        }
        self.features = 0;
        self.backend.reset_device();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.backend.features())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.backend.features() != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = features;
        // Without SET_VRING_ENABLE, all are enabled.
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            for vring in &self.vrings {
                vring.set_enabled(true);
            }
        }
        let event_idx = features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        for vring in &self.vrings {
            vring.set_queue_event_idx(event_idx);
        }
        self.backend.acked_features(features);
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let mapped = regions.iter().zip(files).map(|(it, file)| map(it, file));
        let mapped = mapped.collect::<Result<Vec<_>>>()?;
        let memory = GuestMemoryMmap::from_regions(mapped);
        self.announce(memory.map_err(|error| failed(error.to_string()))?)?;
        self.mappings = regions.iter().map(Mapping::of).collect();
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let vring = self.vring(index)?;
        let num = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        if num == 0 || usize::from(num) > self.backend.max_queue_size() {
            return Err(Error::InvalidParam);
        }
        vring.set_queue_size(num);
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let vring = self.vring(index)?;
        let (descriptor, available, used) = (
            self.guest(descriptor)?,
            self.guest(available)?,
            self.guest(used)?,
        );
        vring
            .set_queue_info(descriptor, available, used)
            .map_err(|_| Error::InvalidParam)?;
        // SET_VRING_BASE says nothing of it: it is where the guest's memory says.
        let next = vring.queue_used_idx();
        vring.set_queue_next_used(next.map_err(|_| Error::BackendInternalError)?);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        // Of a split queue, 16 bits are used.
        let base = u16::try_from(base & 0xffff).unwrap_or(0);
        self.vring(index)?.set_queue_next_avail(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let vring = self.vring(index)?;
        vring.set_queue_ready(false);
        self.stands_still(index)?;
        let next = vring.queue_next_avail();
        vring.set_kick(None);
        vring.set_call(None);
        Ok(VhostUserVringState::new(index, next.into()))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let vring = self.vring(index.into())?;
        vring.set_kick(file);
        Self::start(vring);
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.vring(index.into())?.set_call(file);
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.vring(index.into())?.set_err(file);
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(self.backend.protocol_features())
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        // The vhost crate holds the front end to them.
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.vrings.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        if enable {
            self.vring(index)?.set_enabled(true);
            Ok(())
        } else {
            self.disable(index)
        }
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        Ok(self.backend.get_config(offset, size))
    }

    fn set_config(
        &mut self,
        offset: u32,
        bytes: &[u8],
        _flags: VhostUserConfigFlags,
    ) -> Result<()> {
        let written = self.backend.set_config(offset, bytes);
        written.map_err(Error::ReqHandlerError)
    }

    fn set_gpu_socket(&mut self, _socket: GpuBackend) -> Result<()> {
        Err(Error::InvalidOperation("not supported"))
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(Error::InvalidOperation("not supported"))
    }

    fn get_inflight_fd(
        &mut self,
        _inflight: &VhostUserInflight,
    ) -> Result<(VhostUserInflight, File)> {
        Err(Error::InvalidOperation("not supported"))
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        Err(Error::InvalidOperation("not supported"))
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MOST_REGIONS as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<u64>> {
        let mapped = Arc::new(map(region, file)?);
        let memory = self.announced.memory().insert_region(mapped);
        self.announce(memory.map_err(|error| failed(error.to_string()))?)?;
        self.mappings.push(Mapping::of(region));
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let guest = region.guest_phys_addr;
        let memory = self.announced.memory();
        let removed = memory.remove_region(GuestAddress(guest), region.memory_size);
        let (memory, _) = removed.map_err(|error| failed(error.to_string()))?;
        self.announce(memory)?;
        self.mappings.retain(|mapping| mapping.guest != guest);
        Ok(())
    }

    fn set_device_state_fd(
        &mut self,
        direction: VhostTransferStateDirection,
        phase: VhostTransferStatePhase,
        file: File,
    ) -> Result<Option<File>> {
        let answer = self.backend.set_device_state_fd(direction, phase, file);
        answer.map_err(Error::ReqHandlerError)
    }

    fn check_device_state(&mut self) -> Result<()> {
        let answer = self.backend.check_device_state();
        answer.map_err(Error::ReqHandlerError)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Error::InvalidOperation("not supported"))
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(Error::InvalidOperation("not supported"))
    }
}
