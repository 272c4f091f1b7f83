// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A plugin of QEMU's emulator (TCG) that counts the instructions that a guest executes, and where.
//!
//! Whoever connects to its socket is sent the number so far, 8 bytes, little endian. Whoever then sends
//! a byte is sent where they were, until the end of the stream: addresses of the guest's kernel, each with the
//! number of instructions in the blocks that begin there or within the next 15 bytes. Address 0 stands
//! for all programs, and 1 for what there was no room for.
//!
//! Blocks of instructions count as a whole when they are entered; one that an exception ends counts
//! again from where it goes on. What a `rep` instruction repeats counts once.
//!
//! Interface: "QEMU TCG Plugins" in QEMU's manual, version 7.

#![expect(unsafe_code, reason = "QEMU's interface is in C")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};

/// The version of the interface that this is for.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 7;

/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD: c_int = 0;

/// Places that are told apart.
const SLOTS: usize = 1 << 18;
const PROGRAMS: usize = 0;
const REST: usize = 1;
const FIRST: usize = 2;

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 1 << 63;

/// Bytes of a place.
const PLACE: u64 = 16;

/// The slots of places.
static PLACES: Mutex<Option<HashMap<u64, usize>>> = Mutex::new(None);

/// `qemu_plugin_u64`: a number for each virtual CPU.
#[repr(C)]
#[derive(Clone, Copy)]
struct Numbers {
    scoreboard: *mut c_void,
    offset: usize,
}

// SAFETY: QEMU keeps scoreboards until the plugin is unloaded, which this never asks for, and any
// thread may read them.
unsafe impl Send for Numbers {}

type Translated = extern "C" fn(block: *mut c_void, numbers: *mut c_void);

unsafe extern "C" {
    // Until the plugin is unloaded.
    safe fn qemu_plugin_scoreboard_new(size: usize) -> *mut c_void;
    fn qemu_plugin_u64_sum(numbers: Numbers) -> u64;
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, call: Translated, data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const c_void) -> usize;
    fn qemu_plugin_tb_vaddr(block: *const c_void) -> u64;
    fn qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
        block: *mut c_void,
        operation: c_int,
        numbers: Numbers,
        operand: u64,
    );
}

impl Numbers {
    /// Those of a slot.
    fn at(scoreboard: *mut c_void, slot: usize) -> Self {
        Self {
            scoreboard,
            offset: slot * size_of::<u64>(),
        }
    }

    /// What they come to.
    fn sum(self) -> u64 {
        // SAFETY: The scoreboard is there for as long as QEMU is, and each offset lies in it.
        unsafe { qemu_plugin_u64_sum(self) }
    }
}

/// The slot of an address.
fn slot(address: u64) -> usize {
    if address < KERNEL {
        return PROGRAMS;
    }
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    let places = places.get_or_insert_default();
    let next = FIRST + places.len();
    let place = address / PLACE * PLACE;
    match places.get(&place) {
        Some(slot) => *slot,
        None if next < SLOTS => *places.entry(place).or_insert(next),
        None => REST,
    }
}

/// A block of instructions was translated: has it counted whenever it is executed.
extern "C" fn translated(block: *mut c_void, scoreboard: *mut c_void) {
    // SAFETY: QEMU calls this with a block that is valid until this returns.
    let count = unsafe { qemu_plugin_tb_n_insns(block) };
    // SAFETY: Likewise.
    let address = unsafe { qemu_plugin_tb_vaddr(block) };
    let numbers = Numbers::at(scoreboard, slot(address));
    // SAFETY: Likewise, and with what was registered: a scoreboard of numbers.
    unsafe {
        qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, ADD, numbers, count as u64);
    }
}

/// Called by QEMU when it starts, with `socket=PATH`. Not 0 if that cannot be.
///
/// # Safety
/// `arguments` must be `count` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    let path = (0..count).find_map(|at| {
        // SAFETY: By this function's precondition, it is one of them.
        let argument = unsafe { arguments.add(at) };
        // SAFETY: Likewise.
        let argument = unsafe { *argument };
        // SAFETY: Likewise, it is a string.
        let argument = unsafe { CStr::from_ptr(argument) };
        argument.to_str().ok()?.strip_prefix("socket=")
    });
    let listener = path.and_then(|path| UnixListener::bind(path).ok());
    let Some(listener) = listener else {
        eprintln!("the plugin needs socket=PATH, where nothing is yet");
        return 1;
    };
    let numbers = Numbers::at(
        qemu_plugin_scoreboard_new(SLOTS * size_of::<u64>()),
        PROGRAMS,
    );
    // SAFETY: QEMU lets plugins do this while it starts; the scoreboard stays.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated, numbers.scoreboard) };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who has gone does not need it.
            let _ = stream.and_then(|stream| tell(&stream, numbers));
        }
    });
    0
}

/// Tells whoever has connected.
fn tell(mut stream: &UnixStream, Numbers { scoreboard, .. }: Numbers) -> io::Result<()> {
    let places: Vec<(u64, usize)> = {
        let places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.iter().flatten();
        let places = places.map(|(place, slot)| (*place, *slot));
        let others = [PROGRAMS, REST].map(|slot| (slot as u64, slot));
        others.into_iter().chain(places).collect()
    };
    let counts = places
        .iter()
        .map(|(place, slot)| (*place, Numbers::at(scoreboard, *slot).sum()));
    let counts: Vec<(u64, u64)> = counts.collect();
    let sum = counts.iter().map(|(_, count)| count).sum::<u64>();
    stream.write_all(&sum.to_le_bytes())?;
    if stream.read(&mut [0])? == 0 {
        return Ok(());
    }
    let mut stream = BufWriter::new(stream);
    for (place, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        stream.write_all(&place.to_le_bytes())?;
        stream.write_all(&count.to_le_bytes())?;
    }
    stream.flush()
}
