// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vhost-user front end for tests and benchmarks: guest memory, virtqueues
//! and the connection, but no guest. It panics when something goes wrong.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Error, Frontend, VhostUserFrontend};
use vhost::{Result, VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::bindings::virtio_config::{VIRTIO_F_IN_ORDER, VIRTIO_F_VERSION_1};
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_tmem::testing::{Driver, DriverQueue, Transport};
use virtio_tmem::wire::Config;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Guest memory of `size` bytes from address 0, in a memfd.
pub fn guest_memory(size: u64) -> GuestMemoryMmap {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    ftruncate(&file, size).unwrap();
    let size = usize::try_from(size).unwrap();
    let range = (GuestAddress(0), size, Some(FileOffset::new(file, 0)));
    GuestMemoryMmap::from_ranges_with_files([range]).unwrap()
}

/// What a front end asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Virtqueues to set up.
    pub queues: u16,
    /// Descriptors of each.
    pub queue_size: u16,
    /// Whether to accept EVENT_IDX.
    pub event_idx: bool,
}

impl Default for Ask {
    /// What the documented QEMU command line asks for.
    fn default() -> Self {
        Self {
            queues: 3,
            queue_size: 256,
            event_idx: true,
        }
    }
}

/// Eventfds of one virtqueue.
#[derive(Debug)]
pub struct Notifier {
    kick: EventFd,
    call: EventFd,
    /// Watches `call`.
    epoll: Epoll,
}

impl Notifier {
    /// How long to wait for the device before the test has failed.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn new() -> Self {
        let call = EventFd::new(EFD_NONBLOCK).unwrap();
        let epoll = Epoll::new().unwrap();
        let event = EpollEvent::new(EventSet::IN, 0);
        epoll
            .ctl(ControlOperation::Add, call.as_raw_fd(), event)
            .unwrap();
        Self {
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            call,
            epoll,
        }
    }

    /// Whether the device notified since the last call; waits for it.
    pub fn rings_within(&self, patience: Duration) -> bool {
        let millis = i32::try_from(patience.as_millis()).unwrap();
        let mut events = [EpollEvent::default()];
        let rings = self.epoll.wait(millis, &mut events).unwrap() == 1;
        if rings {
            self.call.read().unwrap();
        }
        rings
    }
}

impl Transport for Notifier {
    fn kick(&mut self) {
        self.kick.write(1).unwrap();
    }

    fn wait(&mut self) {
        assert!(
            self.rings_within(Self::PATIENCE),
            "the device did not notify within 30 s"
        );
    }
}

/// A connected front end whose virtqueues run.
pub struct FrontEnd<'m> {
    frontend: Frontend,
    mem: &'m GuestMemoryMmap,
    config: Config,
    queues: Vec<Option<(DriverQueue<'m, GuestMemoryMmap>, Notifier)>>,
    /// First address that no queue takes.
    free: u64,
}

impl<'m> FrontEnd<'m> {
    /// Connects to the socket at `path`, shares `mem` and starts the queues.
    ///
    /// # Errors
    /// When the back end refuses a step.
    pub fn connect(path: &Path, mem: &'m GuestMemoryMmap, ask: Ask) -> Result<Self> {
        let mut frontend = Frontend::connect(path, u64::from(ask.queues))?;
        frontend.set_owner()?;
        let mut features = 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_F_IN_ORDER
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        if ask.event_idx {
            features |= 1 << VIRTIO_RING_F_EVENT_IDX;
        }
        let features = frontend.get_features()? & features;
        frontend.set_features(features)?;
        let wanted = VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK;
        let protocol = frontend.get_protocol_features()? & wanted;
        frontend.set_protocol_features(protocol)?;
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let regions: Vec<_> = mem
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect::<Result<_>>()?;
        let config = Config::decode(
            read_config(&mut frontend, 0, Config::SIZE)?
                .as_slice()
                .try_into()
                .unwrap(),
        );
        frontend.set_mem_table(&regions)?;
        let mut front_end = Self {
            frontend,
            mem,
            config,
            queues: Vec::new(),
            free: 0,
        };
        for index in 0..ask.queues {
            front_end.start_queue(usize::from(index), ask)?;
        }
        Ok(front_end)
    }

    fn start_queue(&mut self, index: usize, ask: Ask) -> Result<()> {
        let queue = DriverQueue::new(self.mem, self.free, ask.queue_size, ask.event_idx);
        let footprint = DriverQueue::<GuestMemoryMmap>::footprint(ask.queue_size);
        self.free += footprint.next_multiple_of(4096);
        let host = |addr| {
            let host = self.mem.get_host_address(GuestAddress(addr)).unwrap();
            host as u64
        };
        let notifier = Notifier::new();
        let rings = VringConfigData {
            queue_max_size: ask.queue_size,
            queue_size: ask.queue_size,
            flags: 0,
            desc_table_addr: host(queue.desc_table()),
            used_ring_addr: host(queue.used_ring()),
            avail_ring_addr: host(queue.avail_ring()),
            log_addr: None,
        };
        self.frontend.set_vring_num(index, ask.queue_size)?;
        self.frontend.set_vring_addr(index, &rings)?;
        self.frontend.set_vring_base(index, 0)?;
        self.frontend.set_vring_call(index, &notifier.call)?;
        self.frontend.set_vring_kick(index, &notifier.kick)?;
        self.frontend.set_vring_enable(index, true)?;
        self.queues.push(Some((queue, notifier)));
        Ok(())
    }

    /// Stops all queues, as a reset of the device does; how far each was.
    ///
    /// # Errors
    /// When the back end refuses.
    pub fn stop(&mut self) -> Result<Vec<u32>> {
        let queues = 0..self.queues.len();
        queues
            .map(|index| self.frontend.get_vring_base(index))
            .collect()
    }

    /// The device's configuration space.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Reads configuration space.
    ///
    /// # Errors
    /// When the back end refuses.
    pub fn read_config(&mut self, offset: u32, size: usize) -> Result<Vec<u8>> {
        read_config(&mut self.frontend, offset, size)
    }

    /// The connection's socket, to see when it ends.
    pub fn socket(&self) -> OwnedFd {
        // SAFETY: `frontend` has it open for as long as it is borrowed.
        let socket = unsafe { BorrowedFd::borrow_raw(self.frontend.as_raw_fd()) };
        socket.try_clone_to_owned().unwrap()
    }

    /// The connection itself.
    pub fn frontend(&mut self) -> &mut Frontend {
        &mut self.frontend
    }

    /// First guest address that no queue takes; a multiple of 4096.
    pub fn free_memory(&self) -> u64 {
        self.free
    }

    /// Takes queue `index` out, once.
    pub fn queue(&mut self, index: usize) -> (DriverQueue<'m, GuestMemoryMmap>, Notifier) {
        let queue = self.queues.get_mut(index).and_then(Option::take);
        queue.expect("the queue exists and was not taken yet")
    }

    /// A driver on queue `index`, which is taken out. Drivers of different
    /// queues use different areas of memory.
    pub fn driver(&mut self, index: usize) -> Driver<'m, GuestMemoryMmap, Notifier> {
        let (queue, notifier) = self.queue(index);
        let size = Driver::<GuestMemoryMmap, Notifier>::AREA;
        let area = self.free + size * index as u64;
        assert!(
            area + size <= self.mem.iter().map(GuestMemoryRegion::len).sum(),
            "guest memory has room for the driver"
        );
        Driver::new(self.mem, queue, area, notifier)
    }
}

fn read_config(frontend: &mut Frontend, offset: u32, size: usize) -> Result<Vec<u8>> {
    let flags = VhostUserConfigFlags::empty();
    let length = u32::try_from(size).unwrap();
    let (_, bytes) = frontend.get_config(offset, length, flags, &vec![0; size])?;
    if bytes.len() != size {
        return Err(Error::InvalidMessage.into());
    }
    Ok(bytes)
}
