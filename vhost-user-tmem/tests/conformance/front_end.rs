// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vhost-user front end with a split virtqueue, from the specifications
//! alone: it calls nothing of the project.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

pub(crate) const GET_FEATURES: u32 = 1;
pub(crate) const SET_FEATURES: u32 = 2;
pub(crate) const SET_OWNER: u32 = 3;
pub(crate) const SET_MEM_TABLE: u32 = 5;
pub(crate) const SET_VRING_NUM: u32 = 8;
pub(crate) const SET_VRING_ADDR: u32 = 9;
pub(crate) const SET_VRING_BASE: u32 = 10;
pub(crate) const GET_VRING_BASE: u32 = 11;
pub(crate) const SET_VRING_KICK: u32 = 12;
pub(crate) const SET_VRING_CALL: u32 = 13;
pub(crate) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(crate) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(crate) const SET_VRING_ENABLE: u32 = 18;
pub(crate) const GET_QUEUE_NUM: u32 = 17;
pub(crate) const GET_CONFIG: u32 = 24;
pub(crate) const SET_CONFIG: u32 = 25;
pub(crate) const GET_MAX_MEM_SLOTS: u32 = 36;
pub(crate) const ADD_MEM_REG: u32 = 37;
pub(crate) const REM_MEM_REG: u32 = 38;
pub(crate) const SET_DEVICE_STATE_FD: u32 = 42;
pub(crate) const CHECK_DEVICE_STATE: u32 = 43;

pub(crate) const F_VERSION_1: u64 = 1 << 32;
pub(crate) const F_PROTOCOL: u64 = 1 << 30;
pub(crate) const P_REPLY_ACK: u64 = 1 << 3;
const P_MEM_SLOTS: u64 = 1 << 15;
pub(crate) const P_DEVICE_STATE: u64 = 1 << 19;

/// Where guest memory lies for the guest, and for the front end.
pub(crate) const GUEST: u64 = 0x10_0000;
pub(crate) const USER: u64 = 0x7e00_0000_0000;

/// Where the parts of the queue lie in guest memory.
pub(crate) const TABLE: u64 = 0;
pub(crate) const AVAILABLE: u64 = 0x1000;
pub(crate) const USED: u64 = 0x2000;
const SIZE: u16 = 256;

/// Bytes of the words, little-endian.
pub(crate) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Two 32-bit words.
pub(crate) fn pair(first: u32, second: u32) -> Vec<u8> {
    [first.to_le_bytes(), second.to_le_bytes()].concat()
}

/// Connects; the daemon may not listen yet.
pub(crate) fn connect(path: &Path) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => return socket,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct FrontEnd {
    socket: UnixStream,
    pub(crate) memory: File,
    kicks: [OwnedFd; 3],
    call: OwnedFd,
    /// The queue that requests go to, where its parts begin, and what was offered to it.
    queue: u32,
    parts: u64,
    size: u16,
    next: u16,
    /// Where the device begins when the queue is started, if that is not `next`.
    base: Option<u16>,
    pub(crate) protocol: u64,
    /// Where it connects anew when the connection has ended, and how often it did.
    again: Option<PathBuf>,
    pub(crate) ends: u32,
    /// Of these, how often it had been answered before, and how often no message of its own was
    /// waiting for that.
    pub(crate) ends_later: u32,
    pub(crate) ends_unasked: u32,
    /// Whether a message waits for an answer, and whether there was an answer, over this
    /// connection.
    is_waiting: bool,
    is_welcome: bool,
}

impl FrontEnd {
    /// Connects and negotiates; guest memory is a file of `bytes`.
    pub(crate) fn connect(path: &Path, bytes: u64) -> Self {
        let memory = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(bytes).unwrap();
        Self::connect_with(path, memory)
    }

    /// The same for a machine with this memory, whose rings are where its driver left
    /// them.
    pub(crate) fn connect_with(path: &Path, memory: File) -> Self {
        let mut this = Self::new(path, memory);
        this.next = this.index(AVAILABLE);
        assert!(this.negotiate().is_some(), "the connection ended");
        this
    }

    /// Connects, and says nothing.
    pub(crate) fn to(path: &Path) -> Self {
        Self::new(
            path,
            memfd_create("guest", MemfdFlags::CLOEXEC).unwrap().into(),
        )
    }

    /// Connects for a machine with this memory, and says nothing. Requests go to queue 0.
    pub(crate) fn silent(path: &Path, memory: File) -> Self {
        Self {
            queue: 0,
            ..Self::new(path, memory)
        }
    }

    fn new(path: &Path, memory: File) -> Self {
        let socket = connect(path);
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        Self {
            socket,
            memory,
            kicks: [event(), event(), event()],
            call: event(),
            queue: 1,
            parts: 0,
            size: SIZE,
            next: 0,
            base: None,
            protocol: 0,
            again: None,
            ends: 0,
            ends_later: 0,
            ends_unasked: 0,
            is_waiting: false,
            is_welcome: false,
        }
    }

    /// Connects for a machine with this memory, and starts its queue. It does so anew, and
    /// goes on, when the connection has ended and a request waits for its answer.
    pub(crate) fn connect_and_again(path: &Path, memory: File, queue: u32) -> Self {
        let mut this = Self::new(path, memory);
        this.queue = queue;
        this.again = Some(path.to_owned());
        if this.set_up().is_none() {
            this.revive();
        }
        this
    }

    /// `None`: the connection has ended.
    fn set_up(&mut self) -> Option<()> {
        self.negotiate()?;
        let bytes = self.memory.metadata().unwrap().len();
        assert_eq!(self.share_memory(bytes)?, 0);
        self.base = Some(self.index(self.parts + USED));
        self.try_start()
    }

    /// Connects anew, if it does that and the connection has ended.
    pub(crate) fn revive(&mut self) {
        let Some(path) = self.again.clone() else {
            return;
        };
        while !self.is_connected() {
            self.ends += 1;
            self.ends_later += u32::from(self.is_welcome);
            self.ends_unasked += u32::from(self.is_welcome && !self.is_waiting);
            (self.is_waiting, self.is_welcome) = (false, false);
            assert!(self.ends < 5, "no connection lasts");
            self.socket = Self::new(&path, self.memory.try_clone().unwrap()).socket;
            if self.set_up().is_some() {
                return;
            }
        }
    }

    /// `None`: the connection has ended.
    fn negotiate(&mut self) -> Option<()> {
        self.send(GET_FEATURES, 1, &[], &[]);
        self.receive()?;
        self.send(GET_PROTOCOL_FEATURES, 1, &[], &[]);
        self.protocol = self.receive()?;
        let wanted = self.protocol & (P_REPLY_ACK | P_MEM_SLOTS | P_DEVICE_STATE);
        self.send(SET_PROTOCOL_FEATURES, 1, &words(&[wanted]), &[]);
        assert_eq!(self.ask(SET_OWNER, &[], &[])?, 0);
        let features = words(&[F_VERSION_1 | F_PROTOCOL]);
        assert_eq!(self.ask(SET_FEATURES, &features, &[])?, 0);
        Some(())
    }

    pub(crate) fn send(
        &mut self,
        request: u32,
        flags: u32,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) {
        let length = u32::try_from(payload.len()).unwrap();
        let mut message = Vec::new();
        for word in [request, flags, length] {
            message.extend(word.to_le_bytes());
        }
        message.extend(payload);
        let mut space = [std::mem::MaybeUninit::uninit(); 128];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        self.is_waiting = true;
        // A back end that ended the connection shows when it is read from.
        let _ = sendmsg(
            &self.socket,
            &[IoSlice::new(&message)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
    }

    /// The first word of the next message; `None` at the end.
    pub(crate) fn receive(&mut self) -> Option<u64> {
        let payload = self.receive_payload()?;
        Some(u64::from_le_bytes(payload.get(..8)?.try_into().unwrap()))
    }

    /// What the next message has; `None` at the end.
    pub(crate) fn receive_payload(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; 12];
        self.socket.read_exact(&mut head).ok()?;
        let length = u32::from_le_bytes(head[8..].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).ok()?;
        (self.is_waiting, self.is_welcome) = (false, true);
        Some(payload)
    }

    /// Asks for the configuration space, as much as a buffer of `bytes` holds.
    pub(crate) fn config(&mut self, bytes: u32, flags: u32) -> Vec<u8> {
        let mut payload = [pair(0, bytes), flags.to_le_bytes().to_vec()].concat();
        payload.resize(payload.len() + bytes as usize, 0);
        self.send(GET_CONFIG, 1, &payload, &[]);
        let answer = self.receive_payload().unwrap();
        answer.get(12..).unwrap().to_vec()
    }

    /// Sends and waits for the answer: 0 is success.
    pub(crate) fn ask(
        &mut self,
        request: u32,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Option<u64> {
        self.send(request, 1 | 8, payload, fds);
        self.receive()
    }

    /// Hands over guest memory as one region of `bytes`.
    pub(crate) fn share_memory(&mut self, bytes: u64) -> Option<u64> {
        let mut payload = pair(1, 0);
        payload.extend(words(&[GUEST, bytes, USER, 0]));
        let memory = self.memory.try_clone().unwrap();
        self.ask(SET_MEM_TABLE, &payload, &[memory.as_fd()])
    }

    /// Starts the queue, with its rings at these offsets.
    pub(crate) fn start_queue(&mut self, available: u64, used: u64) {
        let started = self.try_start_queue(available, used);
        assert!(started.is_some(), "the connection ended");
    }

    /// `None`: the connection has ended.
    fn try_start_queue(&mut self, available: u64, used: u64) -> Option<()> {
        let queue = self.queue;
        let mut address = pair(queue, 0);
        let parts = [self.parts + TABLE, used, available];
        address.extend(words(&[
            USER + parts[0],
            USER + parts[1],
            USER + parts[2],
            0,
        ]));
        let kick = self.kick_fd().try_clone().unwrap();
        let call = self.call.try_clone().unwrap();
        let number = words(&[queue.into()]);
        let base = self.base.unwrap_or(self.next);
        for (request, payload, fds) in [
            (SET_VRING_NUM, pair(queue, self.size.into()), vec![]),
            (SET_VRING_BASE, pair(queue, base.into()), vec![]),
            (SET_VRING_ADDR, address, vec![]),
            (SET_VRING_CALL, number.clone(), vec![call.as_fd()]),
            (SET_VRING_KICK, number, vec![kick.as_fd()]),
            (SET_VRING_ENABLE, pair(queue, 1), vec![]),
        ] {
            assert_eq!(self.ask(request, &payload, &fds)?, 0, "{request}");
        }
        Some(())
    }

    /// Requests go to this queue from now on, whose parts begin at an offset. It is where
    /// guest memory says.
    pub(crate) fn turn_to(&mut self, queue: u32, parts: u64) {
        (self.queue, self.parts) = (queue, parts);
        self.next = self.index(parts + AVAILABLE);
    }

    /// The queue has another size when it is started next.
    pub(crate) fn set_size(&mut self, size: u16) {
        self.size = size;
    }

    /// Stops the queue in an orderly way.
    pub(crate) fn stop_queue(&mut self) {
        assert!(self.try_stop_queue().is_some(), "the connection ended");
    }

    /// Stops the queue in an orderly way, however long the device takes, and starts it again where
    /// the device has stopped.
    #[allow(dead_code, reason = "some wait for a device that is held")]
    pub(crate) fn stop_and_start(&mut self, patience: Duration) {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        self.send(GET_VRING_BASE, 1, &pair(self.queue, 0), &[]);
        let stopped = self.receive().unwrap();
        self.base = Some((stopped >> 32).try_into().unwrap());
        self.start();
        self.base = None;
    }

    /// Disables the queue, as User-Mode Linux does when its driver resets the device; it stops none.
    pub(crate) fn disable_queue(&mut self) {
        let disabled = self.ask(SET_VRING_ENABLE, &pair(self.queue, 0), &[]);
        assert_eq!(disabled, Some(0));
    }

    /// Enables the queue, which is where it was.
    pub(crate) fn enable_queue(&mut self) {
        let enabled = self.ask(SET_VRING_ENABLE, &pair(self.queue, 1), &[]);
        assert_eq!(enabled, Some(0));
    }

    /// Stops the queue and starts it anew, over another connection if need be.
    pub(crate) fn turn(&mut self) {
        self.base = Some(self.index(self.parts + USED));
        if self
            .try_stop_queue()
            .and_then(|()| self.try_start())
            .is_none()
        {
            self.revive();
        }
    }

    /// `None`: the connection has ended.
    fn try_stop_queue(&mut self) -> Option<()> {
        self.send(GET_VRING_BASE, 1, &pair(self.queue, 0), &[]);
        self.receive().map(drop)
    }

    fn kick_fd(&self) -> &OwnedFd {
        self.kicks.get(self.queue as usize).unwrap()
    }

    /// `None`: the connection has ended.
    fn try_start(&mut self) -> Option<()> {
        self.try_start_queue(self.parts + AVAILABLE, self.parts + USED)
    }

    pub(crate) fn start(&mut self) {
        self.start_queue(self.parts + AVAILABLE, self.parts + USED);
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, offset).unwrap();
    }

    /// The byte at an offset.
    pub(crate) fn read(&self, offset: u64) -> u8 {
        let mut byte = [0];
        self.memory.read_exact_at(&mut byte, offset).unwrap();
        let [byte] = byte;
        byte
    }

    pub(crate) fn kick(&self) {
        rustix::io::write(self.kick_fd(), &1u64.to_ne_bytes()).unwrap();
    }

    /// All queues that are started from now on are kicked by one event.
    pub(crate) fn share_kick(&mut self) {
        let [one, rest @ ..] = &mut self.kicks;
        for other in rest {
            *other = one.try_clone().unwrap();
        }
    }

    /// Makes a chain of descriptors available: offset, bytes, writable. Kicks.
    pub(crate) fn offer(&mut self, chain: &[(u64, u32, bool)]) {
        self.offer_unsaid(chain);
        self.kick();
    }

    /// The same without a kick.
    pub(crate) fn offer_unsaid(&mut self, chain: &[(u64, u32, bool)]) {
        for (at, (offset, bytes, writable)) in (0u16..).zip(chain) {
            let last = usize::from(at) + 1 == chain.len();
            let flags = u16::from(!last) | (u16::from(*writable) << 1);
            let mut descriptor = words(&[GUEST + offset]);
            descriptor.extend(bytes.to_le_bytes());
            descriptor.extend(flags.to_le_bytes());
            descriptor.extend((at + 1).to_le_bytes());
            self.write(self.parts + TABLE + 16 * u64::from(at), &descriptor);
        }
        let entry = self.parts + AVAILABLE + 4 + 2 * u64::from(self.next % self.size);
        self.write(entry, &0u16.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        self.write(self.parts + AVAILABLE + 2, &self.next.to_le_bytes());
    }

    /// The used index of the ring at this offset.
    pub(crate) fn used_index(&self, ring: u64) -> u16 {
        self.index(ring)
    }

    /// The index of a ring: its second word of 16 bits.
    fn index(&self, ring: u64) -> u16 {
        let mut index = [0; 2];
        self.memory.read_exact_at(&mut index, ring + 2).unwrap();
        u16::from_le_bytes(index)
    }

    /// Bytes that the buffer used last has.
    pub(crate) fn used_bytes(&self) -> u32 {
        let last = u64::from(self.index(self.parts + USED).wrapping_sub(1) % self.size);
        let mut bytes = [0; 4];
        let entry = self.parts + USED + 4 + 8 * last;
        self.memory.read_exact_at(&mut bytes, entry + 4).unwrap();
        u32::from_le_bytes(bytes)
    }

    /// The event by which the device is notified of the queue that requests go to.
    pub(crate) fn kick_event(&self) -> OwnedFd {
        self.kick_fd().try_clone().unwrap()
    }

    /// Whether the back end has not ended the connection.
    pub(crate) fn is_connected(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 0
    }

    /// The event by which the driver is notified.
    pub(crate) fn call_event(&self) -> OwnedFd {
        self.call.try_clone().unwrap()
    }

    /// Whether the driver was notified since this was asked last.
    pub(crate) fn is_called(&self) -> bool {
        rustix::io::read(&self.call, &mut [0; 8]).is_ok()
    }

    /// Whether all that was offered is used.
    pub(crate) fn is_idle(&self) -> bool {
        self.index(self.parts + USED) == self.next
    }

    /// Whether all that was offered is used within some seconds.
    pub(crate) fn is_answered(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if self.is_idle() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}
