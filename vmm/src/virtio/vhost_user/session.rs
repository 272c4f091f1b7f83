// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is said to a daemon: the first words, then the driver's queues.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::SocketAddrUnix;
use vhost::VhostUserMemoryRegionInfo;
use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig, VhostUserConfigFlags, VhostUserMemory, VhostUserProtocolFeatures,
    VhostUserU64, VhostUserVirtioFeatures, VhostUserVringAddr, VhostUserVringAddrFlags,
    VhostUserVringState,
};
use virtio_queue::QueueT;
use vm_memory::{ByteValued, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::link::{Broken, Deadline, Link};
use super::offer::{Device, NEEDED, Offer, Told};
use crate::event;
use crate::virtio::{Activation, ActiveQueue, Memory};

/// How long a daemon may take for all first words after the very first one, to
/// start all queues, or to stop them.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What a daemon has to be able to do beside virtio.
const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::CONFIG
    .union(VhostUserProtocolFeatures::MQ)
    .union(VhostUserProtocolFeatures::REPLY_ACK);

const TRANSPORT: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// A daemon that was connected to but has not said anything.
#[derive(Debug)]
pub(super) struct Greeting {
    link: Link,
}

/// A daemon that can be used.
#[derive(Debug)]
pub(super) struct Session {
    link: Link,
    offer: Offer,
    shares_memory: bool,
    /// Queues that it serves.
    started: Vec<u16>,
}

impl Greeting {
    /// Connects, if somebody listens, and asks the first question. A daemon
    /// that serves another front end answers when that has left.
    pub(super) fn new(address: &SocketAddrUnix) -> Result<Self, Broken> {
        let link = Link::connect(address)?;
        link.begin(FrontendReq::GET_FEATURES, &[], Deadline::within(PATIENCE))?;
        Ok(Self { link })
    }

    /// Takes the answer, which is there, and gets to know the daemon.
    pub(super) fn finish(
        self,
        device: &dyn Device,
        request_queues: u16,
    ) -> Result<Session, Broken> {
        let link = self.link;
        let deadline = Deadline::within(PATIENCE);
        let features: VhostUserU64 = link.answer(FrontendReq::GET_FEATURES, deadline)?;
        let missing = (NEEDED | TRANSPORT) & !features.value;
        if missing != 0 {
            return Err(Broken::Unfit(format!(
                "it does not offer the features {missing:#x}"
            )));
        }
        let request = FrontendReq::GET_PROTOCOL_FEATURES;
        let protocol: VhostUserU64 = link.ask(request, &[], deadline)?;
        let missing = PROTOCOL.bits() & !protocol.value;
        if missing != 0 {
            return Err(Broken::Unfit(format!(
                "it does not offer the protocol features {missing:#x}"
            )));
        }
        let protocol = VhostUserU64::new(PROTOCOL.bits());
        let request = FrontendReq::SET_PROTOCOL_FEATURES;
        link.begin(request, protocol.as_slice(), deadline)?;
        link.tell(FrontendReq::SET_OWNER, &[], &[], deadline)?;
        let rings: VhostUserU64 = link.ask(FrontendReq::GET_QUEUE_NUM, &[], deadline)?;
        let told = Told {
            features: features.value,
            space: read_config(&link, device.space_size(), deadline)?,
            queues: rings.value,
        };
        let offer = device.offer(&told, request_queues);
        Ok(Session {
            link,
            offer: offer.map_err(Broken::Unfit)?,
            shares_memory: false,
            started: Vec::new(),
        })
    }
}

impl AsFd for Greeting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl Session {
    /// What a driver is to see.
    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Why the connection is over, when it is readable although nothing was
    /// asked.
    pub(super) fn judge(&self) -> Broken {
        self.link.judge()
    }

    /// Hands the queues of a driver that was shown `offer` to the daemon, and what was `written`
    /// to the configuration space. It goes on where their used rings end: what was made available
    /// after that is done (again), which the devices' requests are made for (`dev-replay`). If this fails, the
    /// connection has to be closed.
    pub(super) fn start(
        &mut self,
        activation: &Activation,
        offer: &Offer,
        written: Option<(u32, Vec<u8>)>,
    ) -> Result<(), Broken> {
        let deadline = Deadline::within(PATIENCE);
        let features = VhostUserU64::new(activation.features | TRANSPORT);
        let request = FrontendReq::SET_FEATURES;
        self.link
            .tell(request, features.as_slice(), &[], deadline)?;
        if !self.shares_memory {
            self.share(&activation.memory, deadline)?;
            self.shares_memory = true;
        }
        if let Some((at, bytes)) = written {
            self.write(at, &bytes, deadline)?;
        }
        let queues = offer.queues.min(self.offer.queues);
        for active in &activation.queues {
            // A driver may set up more queues than it was shown.
            if active.index >= queues {
                continue;
            }
            self.start_queue(activation, active, deadline)?;
            self.started.push(active.index);
            // The driver's may have been lost with the daemon before.
            event::set(&active.kick);
        }
        Ok(())
    }

    /// Tells the daemon what the driver has written to the configuration space. If this fails,
    /// the connection has to be closed.
    pub(super) fn write_config(&self, at: u32, bytes: &[u8]) -> Result<(), Broken> {
        self.write(at, bytes, Deadline::within(PATIENCE))
    }

    fn write(&self, at: u32, bytes: &[u8], deadline: Deadline) -> Result<(), Broken> {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let head = VhostUserConfig::new(at, size, VhostUserConfigFlags::empty());
        let message = [head.as_slice(), bytes].concat();
        self.link
            .tell(FrontendReq::SET_CONFIG, &message, &[], deadline)
    }

    fn share(&self, memory: &Memory, deadline: Deadline) -> Result<(), Broken> {
        let unfit = |_| Broken::Unfit("guest memory cannot be shared".to_owned());
        let count = u32::try_from(memory.num_regions()).unwrap_or(u32::MAX);
        let mut body = VhostUserMemory::new(count).as_slice().to_vec();
        let mut files = Vec::new();
        for region in memory.iter() {
            let info = VhostUserMemoryRegionInfo::from_guest_region(region).map_err(unfit)?;
            body.extend_from_slice(info.to_region().as_slice());
            files.extend(region.file_offset().map(|offset| offset.file().as_fd()));
        }
        let request = FrontendReq::SET_MEM_TABLE;
        self.link.tell(request, &body, &files, deadline)
    }

    fn start_queue(
        &self,
        activation: &Activation,
        active: &ActiveQueue,
        deadline: Deadline,
    ) -> Result<(), Broken> {
        let ActiveQueue { index, queue, kick } = active;
        let index = u32::from(*index);
        // The transport has checked that the rings are in memory.
        let outside = |_| Broken::Unfit(format!("queue {index} lies outside memory"));
        let host = |guest| {
            let host = activation.memory.get_host_address(GuestAddress(guest));
            host.map(|host| host as u64).map_err(outside)
        };
        let used = queue.used_idx(&*activation.memory, Ordering::Acquire);
        let base = used.map_err(|_| Broken::Unfit(format!("queue {index} cannot be read")))?;
        let state = |value| VhostUserVringState::new(index, value);
        let rings = VhostUserVringAddr::new(
            index,
            VhostUserVringAddrFlags::empty(),
            host(queue.desc_table())?,
            host(queue.used_ring())?,
            host(queue.avail_ring())?,
            0,
        );
        let tell = |request, body: &[u8], files: &[BorrowedFd<'_>]| {
            self.link.tell(request, body, files, deadline)
        };
        let number = VhostUserU64::new(index.into());
        let line = event::fd(activation.interrupt.line());
        let num = state(queue.size().into());
        tell(FrontendReq::SET_VRING_NUM, num.as_slice(), &[])?;
        tell(FrontendReq::SET_VRING_ADDR, rings.as_slice(), &[])?;
        let base = state(base.0.into());
        tell(FrontendReq::SET_VRING_BASE, base.as_slice(), &[])?;
        // Before the kick: what it finds then is told at once.
        tell(FrontendReq::SET_VRING_CALL, number.as_slice(), &[line])?;
        let kick = event::fd(kick);
        tell(FrontendReq::SET_VRING_KICK, number.as_slice(), &[kick])?;
        tell(FrontendReq::SET_VRING_ENABLE, state(1).as_slice(), &[])
    }

    /// Takes the queues back. Once this succeeds, the daemon touches neither
    /// guest memory nor the interrupt; if it fails, the connection has to be
    /// closed.
    pub(super) fn stop(&mut self) -> Result<(), Broken> {
        let deadline = Deadline::within(PATIENCE);
        for index in std::mem::take(&mut self.started) {
            let which = VhostUserVringState::new(index.into(), 0);
            let request = FrontendReq::GET_VRING_BASE;
            // Where it stopped is in the used ring, as it works in order.
            let stopped: VhostUserVringState =
                self.link.ask(request, which.as_slice(), deadline)?;
            if { stopped.index } != u32::from(index) {
                return Err(Broken::Nonsense(request));
            }
        }
        Ok(())
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// The first `size` bytes of the configuration space.
fn read_config(link: &Link, size: usize, deadline: Deadline) -> Result<Vec<u8>, Broken> {
    let wanted = u32::try_from(size).unwrap_or_default();
    let what = VhostUserConfig::new(0, wanted, VhostUserConfigFlags::empty());
    // The question has room for the answer.
    let mut message = what.as_slice().to_vec();
    let head = message.len();
    message.resize(head.saturating_add(size), 0);
    let request = FrontendReq::GET_CONFIG;
    link.begin(request, &message, deadline)?;
    link.answer_into(request, &mut message, deadline)?;
    Ok(message.split_off(head))
}
