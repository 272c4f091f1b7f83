// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A plugin of QEMU's emulator (TCG) that counts the instructions that a guest executes. Whoever
//! connects to its socket is sent the number so far, 8 bytes, little endian.
//!
//! Blocks of instructions count as a whole when they are entered; one that an exception ends counts
//! again from where it goes on. What a `rep` instruction repeats counts once.
//!
//! Interface: "QEMU TCG Plugins" in QEMU's manual, version 7.

#![expect(unsafe_code, reason = "QEMU's interface is in C")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write as _;
use std::os::unix::net::UnixListener;

/// The version of the interface that this is for.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 7;

/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD: c_int = 0;

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
    fn qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
        block: *mut c_void,
        operation: c_int,
        numbers: Numbers,
        operand: u64,
    );
}

/// A block of instructions was translated: has it counted whenever it is executed.
extern "C" fn translated(block: *mut c_void, scoreboard: *mut c_void) {
    let numbers = Numbers {
        scoreboard,
        offset: 0,
    };
    // SAFETY: QEMU calls this with a block that is valid until this returns.
    let count = unsafe { qemu_plugin_tb_n_insns(block) };
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
    let numbers = Numbers {
        scoreboard: qemu_plugin_scoreboard_new(size_of::<u64>()),
        offset: 0,
    };
    // SAFETY: QEMU lets plugins do this while it starts; the scoreboard stays.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated, numbers.scoreboard) };
    std::thread::spawn(move || tell(&listener, numbers));
    0
}

/// Tells whoever connects.
fn tell(listener: &UnixListener, numbers: Numbers) {
    for stream in listener.incoming() {
        // SAFETY: The scoreboard is there for as long as QEMU is.
        let sum = unsafe { qemu_plugin_u64_sum(numbers) };
        // Who has gone does not need it.
        let _ = stream.and_then(|mut stream| stream.write_all(&sum.to_le_bytes()));
    }
}
