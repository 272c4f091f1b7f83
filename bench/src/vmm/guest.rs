// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests of some dozen instructions: ELF files of one segment at 1 MiB, which
//! the VMM enters in 64-bit mode with the first GiB mapped.

use virtio_bindings::bindings::virtio_mmio as register;
use virtio_tmem::wire::{Op, PAGE_SIZE, PoolKind, PoolSpec, RequestFlags, RequestHeader};

/// Where the segment begins.
const BASE: u64 = 1 << 20;

/// The first serial port, and the port and value that switch off (S5).
const SERIAL: u16 = 0x3f8;
const SLEEP: u16 = 0x600;
const SOFT_OFF: u8 = 0x34;

/// Page tables of the VMM: this entry is for the GiB with the devices, of which
/// the first 2 MiB are enough. Pages and tables are present and writable.
const DEVICES_ENTRY: u64 = 0xa018;
const DEVICES_TABLE: u64 = DATA + 0x7000;
const DEVICES_PAGE: u32 = 0xd000_0083;
const TABLE: u32 = 3;

/// The device: the random number device comes before it.
const TMEM: u64 = 0xd000_1000;

/// Data of the program, behind its code.
const DATA: u64 = BASE + 0x1000;
const AVAILABLE: u64 = DATA + 0x100;
const USED: u64 = DATA + 0x200;
const ANSWER: u64 = DATA + 0x400;
const CREATE: u64 = DATA + 0x2000;
const PUT: u64 = DATA + 0x3000;
const GET: u64 = DATA + 0x5000;
const END: usize = 0x9000;

/// What a guest says on its serial port.
#[derive(Clone, Copy)]
pub(super) enum Said {
    /// It runs.
    Up = b'U' as isize,
    /// A part of its work is done.
    Done = b'D' as isize,
}

/// A guest that says that it runs, and then does nothing.
pub(super) fn idle() -> Vec<u8> {
    let mut code = Code::default();
    code.out(SERIAL, Said::Up as u8);
    code.stop();
    elf(&code.0)
}

/// A guest that puts a page and gets it, `count` times each.
pub(super) struct Requests {
    pub(super) count: u32,
}

impl Requests {
    pub(super) fn program(&self) -> Vec<u8> {
        let mut code = Code::default();
        code.store(DEVICES_TABLE + 8 * 0x80, DEVICES_PAGE);
        code.store(DEVICES_ENTRY, low(DEVICES_TABLE) | TABLE);
        code.set_up();
        let page = u32::try_from(PAGE_SIZE).unwrap_or_default();
        code.chain(CREATE, 48 + 32, 16);
        code.repeat(1);
        code.chain(PUT, 48 + page, 17);
        code.out(SERIAL, Said::Up as u8);
        code.repeat(self.count);
        code.out(SERIAL, Said::Done as u8);
        code.chain(GET, 48, 17 + page);
        code.repeat(self.count);
        code.out(SERIAL, Said::Done as u8);
        // The pages that the last GET brought; one is right.
        code.unless(ANSWER + 8, 1);
        code.out(SLEEP, SOFT_OFF);
        code.stop();
        let mut image = code.0;
        image.resize(END, 0);
        let header = |op: Op, count| RequestHeader {
            op: op as u16,
            flags: RequestFlags::default(),
            pool: 0,
            object: [0; 24],
            index: 0,
            count,
        };
        let spec = PoolSpec::own(PoolKind::Persistent);
        let create = [&header(Op::CreatePool, 0).encode()[..], &spec.encode()].concat();
        for (at, bytes) in [
            (CREATE, create),
            (PUT, header(Op::Put, 1).encode().to_vec()),
            (GET, header(Op::Get, 1).encode().to_vec()),
            // Something that compresses about as memory does.
            (
                PUT + 48,
                (0u16..2048).flat_map(|n| (n / 3).to_le_bytes()).collect(),
            ),
        ] {
            let from = usize::try_from(at - BASE).unwrap_or(usize::MAX);
            for (to, byte) in image.iter_mut().skip(from).zip(bytes) {
                *to = byte;
            }
        }
        elf(&image)
    }
}

/// Instructions (Intel SDM, volume 2).
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn emit(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// mov dx, port; mov al, value; out dx, al
    fn out(&mut self, port: u16, value: u8) {
        let [low, high] = port.to_le_bytes();
        self.emit(&[0x66, 0xba, low, high, 0xb0, value, 0xee]);
    }

    /// cli; hlt; jmp to hlt
    fn stop(&mut self) {
        self.emit(&[0xfa, 0xf4, 0xeb, 0xfd]);
    }

    /// mov eax, value; mov [at], eax
    fn store(&mut self, at: u64, value: u32) {
        self.emit(&[0xb8]);
        self.emit(&value.to_le_bytes());
        self.emit(&[0xa3]);
        self.emit(&at.to_le_bytes());
    }

    /// mov eax, [at]; cmp eax, value; then stops unless they are equal.
    fn unless(&mut self, at: u64, value: u8) {
        self.emit(&[0xa1]);
        self.emit(&at.to_le_bytes());
        // cmp eax, imm8; je over "ud2"
        self.emit(&[0x83, 0xf8, value, 0x74, 0x02, 0x0f, 0x0b]);
    }

    /// Negotiates, and enables the first request queue with four descriptors.
    fn set_up(&mut self) {
        for (register, value) in [
            (register::VIRTIO_MMIO_STATUS, 0),
            (register::VIRTIO_MMIO_STATUS, 1),
            (register::VIRTIO_MMIO_STATUS, 3),
            (register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1),
            (register::VIRTIO_MMIO_DRIVER_FEATURES, 1),
            (register::VIRTIO_MMIO_STATUS, 0xb),
            (register::VIRTIO_MMIO_QUEUE_SEL, 1),
            (register::VIRTIO_MMIO_QUEUE_NUM, 4),
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, low(DATA)),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, low(AVAILABLE)),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, low(USED)),
            (register::VIRTIO_MMIO_QUEUE_READY, 1),
            (register::VIRTIO_MMIO_STATUS, 0xf),
        ] {
            self.store(TMEM + u64::from(register), value);
        }
    }

    /// Describes a request of `size` bytes at `request`, with `room` bytes for
    /// its answer. Every entry of the available ring is zero, so names it.
    fn chain(&mut self, request: u64, size: u32, room: u32) {
        for (offset, value) in [
            (0, low(request)),
            (8, size),
            // NEXT, and the next one is number 1.
            (12, 1 | 1 << 16),
            (16, low(ANSWER)),
            (24, room),
            // WRITE.
            (28, 2),
        ] {
            self.store(DATA + offset, value);
        }
    }

    /// Makes the request available `count` times, and waits each time until it
    /// is used.
    fn repeat(&mut self, count: u32) {
        self.emit(&[0xb9]); // mov ecx, count
        self.emit(&count.to_le_bytes());
        let again = self.0.len();
        self.emit(&[0x66, 0xa1]); // mov ax, [index]
        self.emit(&(AVAILABLE + 2).to_le_bytes());
        self.emit(&[0x66, 0xff, 0xc0]); // inc ax
        self.emit(&[0x66, 0xa3]); // mov [index], ax
        self.emit(&(AVAILABLE + 2).to_le_bytes());
        self.emit(&[0x89, 0xc3]); // mov ebx, eax
        self.store(TMEM + u64::from(register::VIRTIO_MMIO_QUEUE_NOTIFY), 1);
        let wait = self.0.len();
        self.emit(&[0x66, 0xa1]); // mov ax, [used index]
        self.emit(&(USED + 2).to_le_bytes());
        self.emit(&[0x66, 0x39, 0xd8]); // cmp ax, bx
        self.branch(&[0x0f, 0x85], wait); // jne
        self.emit(&[0xff, 0xc9]); // dec ecx
        self.branch(&[0x0f, 0x85], again); // jnz
    }

    /// A conditional jump back to `to`.
    fn branch(&mut self, operation: &[u8], to: usize) {
        self.emit(operation);
        let back = self.0.len() + 4 - to;
        let back = i32::try_from(back).unwrap_or_default();
        self.emit(&(-back).to_le_bytes());
    }
}

/// The low half of an address, which is all of it here.
fn low(address: u64) -> u32 {
    u32::try_from(address).unwrap_or_default()
}

/// An ELF file (64-bit, x86-64, executable) of one segment.
fn elf(segment: &[u8]) -> Vec<u8> {
    let size = segment.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2u16, 62, 1, 0] {
        file.extend(half.to_le_bytes());
    }
    for long in [BASE, 64, 0] {
        file.extend(long.to_le_bytes());
    }
    for half in [0u16, 0, 64, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // One segment to load, readable, writable and executable.
    for word in [1u32, 7] {
        file.extend(word.to_le_bytes());
    }
    for long in [120, BASE, BASE, size, size, 1] {
        file.extend(long.to_le_bytes());
    }
    file.extend_from_slice(segment);
    file
}
