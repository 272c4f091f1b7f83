// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a front end has set up, and how to set it up again.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};

use super::message::*;
use crate::takeover::QUEUES;

/// No descriptor comes with a kick, call or error message.
const NO_FD: u64 = 1 << 8;

/// The number of a descriptor that is kept.
pub(super) type FdId = u64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Region {
    guest: u64,
    pub(super) bytes: u64,
    pub(super) user: u64,
    pub(super) offset: u64,
    pub(super) fd: FdId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ring {
    num: Option<u32>,
    base: Option<u32>,
    /// The message's body.
    addr: Option<Vec<u8>>,
    /// Set at all, and to a descriptor.
    pub(super) kick: Option<Option<FdId>>,
    pub(super) call: Option<Option<FdId>>,
    err: Option<Option<FdId>>,
    enabled: Option<bool>,
}

impl Ring {
    /// Where its used ring is for the front end.
    pub(super) fn used_ring(&self) -> Option<u64> {
        // Number, flags, descriptors, used, available, log.
        let bytes = self.addr.as_ref()?.get(16..24)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Whether the device works on it.
    pub(super) fn is_started(&self) -> bool {
        self.kick.is_some()
    }

    fn fds(&self) -> impl Iterator<Item = FdId> {
        [self.kick, self.call, self.err]
            .into_iter()
            .flatten()
            .flatten()
    }
}

/// What a front end has set up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The next descriptor's number.
    next: FdId,
    /// The front end's socket.
    pub(super) socket: FdId,
    /// Both ends of the pipe for answers.
    pub(super) outbox: [FdId; 2],
    has_asked: bool,
    is_owned: bool,
    features: Option<u64>,
    protocol: Option<u64>,
    pub(super) regions: Vec<Region>,
    pub(super) rings: BTreeMap<u32, Ring>,
}

impl State {
    /// Of a front end that has said nothing yet.
    pub(super) fn new() -> Self {
        Self {
            next: 1,
            ..Self::default()
        }
    }

    /// All descriptors.
    pub(super) fn fds(&self) -> impl Iterator<Item = FdId> {
        let regions = self.regions.iter().map(|region| region.fd);
        let rings = self.rings.values().flat_map(Ring::fds);
        regions.chain(rings).chain(self.outbox).chain([self.socket])
    }

    fn number(&mut self, fd: OwnedFd, new: &mut Vec<(FdId, OwnedFd)>) -> FdId {
        let id = self.next;
        self.next = id.saturating_add(1);
        new.push((id, fd));
        id
    }

    /// Begins with the front end's socket and the pipe for answers.
    pub(super) fn begin(&mut self, socket: OwnedFd, outbox: [OwnedFd; 2]) -> Vec<(FdId, OwnedFd)> {
        let mut new = Vec::new();
        self.socket = self.number(socket, &mut new);
        self.outbox = outbox.map(|end| self.number(end, &mut new));
        new
    }

    /// Takes over what a message set up that was done; the descriptors to be kept. `reply`
    /// is the answer, if there is one. `None`: nothing changes.
    pub(super) fn apply(
        &mut self,
        message: &mut Message,
        reply: Option<&Message>,
    ) -> Option<Vec<(FdId, OwnedFd)>> {
        let mut new = Vec::new();
        let mut fds = std::mem::take(&mut message.fds);
        match message.request {
            GET_FEATURES => {
                self.has_asked = true;
            }
            SET_OWNER => self.is_owned = true,
            RESET_OWNER => {
                self.is_owned = false;
                (self.features, self.protocol) = (None, None);
            }
            SET_FEATURES => self.features = Some(message.word(0)?),
            SET_PROTOCOL_FEATURES => self.protocol = Some(message.word(0)?),
            SET_MEM_TABLE => {
                self.regions.clear();
                for (nth, fd) in fds.into_iter().enumerate() {
                    let at = nth.checked_mul(4)?.checked_add(1)?;
                    let region = self.region(message, at, fd, &mut new)?;
                    self.regions.push(region);
                }
            }
            ADD_MEM_REG => {
                let region = self.region(message, 1, fds.pop()?, &mut new)?;
                self.regions.push(region);
            }
            REM_MEM_REG => {
                let guest = message.word(1)?;
                self.regions.retain(|region| region.guest != guest);
            }
            SET_VRING_NUM => {
                let (ring, num) = message.pair()?;
                self.ring(ring)?.num = Some(num);
            }
            SET_VRING_BASE => {
                let (ring, base) = message.pair()?;
                self.ring(ring)?.base = Some(base);
            }
            SET_VRING_ADDR => {
                let (ring, _) = message.pair()?;
                self.ring(ring)?.addr = Some(message.body.clone());
            }
            GET_VRING_BASE => {
                let (number, _) = message.pair()?;
                let (_, base) = reply?.pair()?;
                let ring = self.ring(number)?;
                ring.base = Some(base);
                (ring.kick, ring.call) = (None, None);
            }
            SET_VRING_KICK | SET_VRING_CALL | SET_VRING_ERR => {
                let word = message.word(0)?;
                let number = u32::try_from(word & 0xff).ok()?;
                let fd = fds.pop().filter(|_| word & NO_FD == 0);
                let fd = fd.map(|fd| self.number(fd, &mut new));
                let ring = self.ring(number)?;
                match message.request {
                    SET_VRING_KICK => ring.kick = Some(fd),
                    SET_VRING_CALL => ring.call = Some(fd),
                    _ => ring.err = Some(fd),
                }
            }
            SET_VRING_ENABLE => {
                let (ring, enable) = message.pair()?;
                self.ring(ring)?.enabled = Some(enable != 0);
            }
            _ => return None,
        }
        Some(new)
    }

    fn ring(&mut self, number: u32) -> Option<&mut Ring> {
        let is_one = usize::try_from(number).is_ok_and(|number| number < QUEUES);
        is_one.then(|| self.rings.entry(number).or_default())
    }

    /// The region whose description begins at this word.
    fn region(
        &mut self,
        message: &Message,
        at: usize,
        fd: OwnedFd,
        new: &mut Vec<(FdId, OwnedFd)>,
    ) -> Option<Region> {
        let word = |nth| message.word(at.checked_add(nth)?);
        Some(Region {
            guest: word(0)?,
            bytes: word(1)?,
            user: word(2)?,
            offset: word(3)?,
            fd: self.number(fd, new),
        })
    }

    /// The messages that set all of it up anew, each with the numbers of its descriptors.
    /// `base` says where a ring goes on that is started.
    pub(super) fn script(&self, base: impl Fn(&Ring) -> Option<u16>) -> Vec<(Message, Vec<FdId>)> {
        let mut script = Vec::new();
        let mut say = |request, body: Vec<u8>, fds: Vec<FdId>| {
            script.push((Message::new(request, body), fds));
        };
        if self.has_asked {
            say(GET_FEATURES, vec![], vec![]);
        }
        if self.is_owned {
            say(SET_OWNER, vec![], vec![]);
        }
        if let Some(protocol) = self.protocol {
            say(SET_PROTOCOL_FEATURES, words(&[protocol]), vec![]);
        }
        if let Some(features) = self.features {
            say(SET_FEATURES, words(&[features]), vec![]);
        }
        let slots = VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS.bits();
        let describe =
            |region: &Region| words(&[region.guest, region.bytes, region.user, region.offset]);
        if self.protocol.is_some_and(|protocol| protocol & slots != 0) {
            for region in &self.regions {
                let body = [words(&[0]), describe(region)].concat();
                say(ADD_MEM_REG, body, vec![region.fd]);
            }
        } else if !self.regions.is_empty() {
            let mut body = words(&[self.regions.len() as u64]);
            body.extend(self.regions.iter().flat_map(describe));
            let fds = self.regions.iter().map(|region| region.fd);
            say(SET_MEM_TABLE, body, fds.collect());
        }
        let has_protocol = self.features.is_some_and(|features| {
            features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0
        });
        for (number, ring) in &self.rings {
            let pair = |second: u32| words(&[u64::from(*number) | u64::from(second) << 32]);
            if let Some(num) = ring.num {
                say(SET_VRING_NUM, pair(num), vec![]);
            }
            let at = base(ring).map(u32::from).filter(|_| ring.is_started());
            if let Some(at) = at.or(ring.base) {
                say(SET_VRING_BASE, pair(at), vec![]);
            }
            if let Some(addr) = &ring.addr {
                say(SET_VRING_ADDR, addr.clone(), vec![]);
            }
            for (request, fd) in [
                (SET_VRING_CALL, ring.call),
                (SET_VRING_ERR, ring.err),
                (SET_VRING_KICK, ring.kick),
            ] {
                if let Some(fd) = fd {
                    let none = if fd.is_none() { NO_FD } else { 0 };
                    let body = words(&[u64::from(*number) | none]);
                    say(request, body, fd.into_iter().collect());
                }
            }
            if let Some(enabled) = ring.enabled.filter(|_| has_protocol) {
                say(SET_VRING_ENABLE, pair(enabled.into()), vec![]);
            }
        }
        script
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
