// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest: a program and its data, and what programs often do.

pub(crate) mod file;

use tmem_vmm::machine::layout;
use tmem_vmm::machine::power::{BUTTON, HAPPENED, RESET, RESET_VALUE, SLEEP_CONTROL, SOFT_OFF};

use crate::asm::{Code, If, Reg, Width};

/// Where the code begins, as the kernel of the guest.
const CODE: u64 = layout::KERNEL;

/// Where the data begin.
const DATA: u64 = CODE + 0x1_0000;

/// Entries of a page table, and bytes of a page.
const ENTRIES: u64 = 512;
const PAGE: u64 = 4096;

/// Bits of their entries: present and writable; and a page of 2 MiB.
const TABLE: u64 = 0b11;
const PAGE_2M: u64 = 0b1000_0011;

/// A guest in the making. Runs in 64-bit mode, without interrupts.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) code: Code,
    data: Vec<u8>,
}

impl Guest {
    /// A guest whose first gigabyte and devices are mapped.
    pub(crate) fn new() -> Self {
        let mut guest = Self {
            code: Code::default(),
            data: Vec::new(),
        };
        guest.map_devices();
        guest
    }

    /// The VMM maps the first gigabyte; the fourth has the devices.
    fn map_devices(&mut self) {
        let gib = 3u64 << 30;
        let pages = (0..ENTRIES).map(|nth| gib | nth << 21 | PAGE_2M);
        let pages: Vec<u8> = pages.flat_map(u64::to_le_bytes).collect();
        let table = self.put(&pages, PAGE);
        let directories = layout::PAGE_TABLES + PAGE;
        self.write(Width::Eight, directories + 3 * 8, table | TABLE);
    }

    /// The ELF file: one segment with the code and then the data.
    pub(crate) fn elf(&self) -> Vec<u8> {
        file::elf(CODE, &self.memory(0))
    }

    /// The same as a bzImage, for which memory must have this many bytes.
    pub(crate) fn bzimage(&self, needed: u32) -> Vec<u8> {
        file::bzimage(needed, &self.memory(file::ENTRY_64))
    }

    /// What is in memory from [`CODE`] on, with the program's begin this far
    /// behind it.
    fn memory(&self, entry: usize) -> Vec<u8> {
        let mut memory = vec![0; entry];
        memory.extend(self.code.finish());
        let gap = usize::try_from(DATA - CODE).unwrap();
        assert!(memory.len() <= gap, "the code is too long");
        memory.resize(gap, 0);
        memory.extend(&self.data);
        memory
    }

    /// Puts `bytes` into the data; their address is a multiple of `align`.
    pub(crate) fn put(&mut self, bytes: &[u8], align: u64) -> u64 {
        let at = (DATA + self.data.len() as u64).next_multiple_of(align);
        self.data.resize(usize::try_from(at - DATA).unwrap(), 0);
        self.data.extend(bytes);
        at
    }

    /// Room for `len` bytes, filled with `filler`.
    pub(crate) fn space(&mut self, len: usize, filler: u8, align: u64) -> u64 {
        self.put(&vec![filler; len], align)
    }

    /// Changes data.
    pub(crate) fn poke(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at - DATA).unwrap();
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes to memory, or to a device's registers.
    pub(crate) fn write(&mut self, width: Width, at: u64, value: u64) {
        self.code.set(Reg::Rbx, at);
        self.code.set(Reg::Rax, value);
        self.code.store(width, Reg::Rbx, Reg::Rax);
    }

    /// Reads into `rax`.
    pub(crate) fn read(&mut self, width: Width, at: u64) {
        self.code.set(Reg::Rbx, at);
        self.code.load(width, Reg::Rax, Reg::Rbx);
    }

    /// Writes a byte to an I/O port.
    pub(crate) fn out(&mut self, port: u16, value: u8) {
        self.code.set(Reg::Rdx, port.into());
        self.code.set(Reg::Rax, value.into());
        self.code.out(Width::One);
    }

    /// Reads an I/O port into `rax`, the rest of which is zero.
    pub(crate) fn input(&mut self, width: Width, port: u16) {
        self.code.set(Reg::Rax, 0);
        self.code.set(Reg::Rdx, port.into());
        self.code.input(width);
    }

    /// Goes on if `rax` is `value`; otherwise says that `what` is wrong, and
    /// resets.
    pub(crate) fn expect(&mut self, what: &str, value: u64) {
        self.code.set(Reg::Rbx, value);
        self.code.compare_with(Reg::Rax, Reg::Rbx);
        self.or_reset(what);
    }

    /// Goes on if the bytes at `at` are these; otherwise says that `what` is
    /// wrong, and resets.
    pub(crate) fn expect_bytes(&mut self, what: &str, at: u64, bytes: &[u8]) {
        let expected = self.put(bytes, 1);
        self.code.set(Reg::Rsi, at);
        self.code.set(Reg::Rdi, expected);
        let len = bytes.len();
        // Where instructions are emulated, each comparison takes its time.
        let width = match len % 8 {
            0 => Width::Eight,
            _ => Width::One,
        };
        self.code.set(Reg::Rcx, (len / width as usize) as u64);
        self.code.compare_strings(width);
        self.or_reset(what);
    }

    /// Goes on if what was compared is equal.
    fn or_reset(&mut self, what: &str) {
        let well = self.code.label();
        self.code.jump_if(If::Equal, well);
        self.wrong(what);
        self.code.place(well);
    }

    fn wrong(&mut self, what: &str) {
        self.print(&format!("wrong: {what}\n"));
        self.reset();
    }

    /// Fails as [`Guest::expect`] does if `rax` is `value`.
    pub(crate) fn expect_not(&mut self, what: &str, value: u64) {
        let well = self.code.label();
        self.code.set(Reg::Rbx, value);
        self.code.compare_with(Reg::Rax, Reg::Rbx);
        self.code.jump_if(If::Different, well);
        self.wrong(what);
        self.code.place(well);
    }

    /// Loops until `value` is at `at`.
    pub(crate) fn wait_for(&mut self, width: Width, at: u64, value: u64) {
        self.code.set(Reg::Rcx, value);
        let again = self.code.here();
        self.code.pause();
        self.read(width, at);
        self.code.compare_with(Reg::Rax, Reg::Rcx);
        self.code.jump_if(If::Different, again);
    }

    /// Writes `text` to the first serial port.
    pub(crate) fn print(&mut self, text: &str) {
        let at = self.put(text.as_bytes(), 1);
        self.code.set(Reg::Rsi, at);
        self.code.set(Reg::Rcx, text.len() as u64);
        self.code.set(Reg::Rdx, layout::SERIAL[0].0.into());
        self.code.out_string();
    }

    /// Writes the lowest byte of `rax` to the first serial port.
    pub(crate) fn print_al(&mut self) {
        self.code.set(Reg::Rdx, layout::SERIAL[0].0.into());
        self.code.out(Width::One);
    }

    /// Switches off, and waits for it.
    pub(crate) fn power_off(&mut self) {
        self.out(layout::POWER + SLEEP_CONTROL, 1 << 5 | SOFT_OFF << 2);
        self.halt();
    }

    /// Waits until the power button is pressed.
    pub(crate) fn wait_for_button(&mut self) {
        let again = self.code.here();
        self.input(Width::One, layout::POWER + HAPPENED);
        self.code.compare(Reg::Rax, BUTTON.into());
        self.code.jump_if(If::Different, again);
    }

    /// Resets as ACPI says, and waits for it.
    pub(crate) fn reset(&mut self) {
        self.out(layout::POWER + RESET, RESET_VALUE);
        self.halt();
    }

    /// Ends in a triple fault.
    pub(crate) fn crash(&mut self) {
        let empty = self.space(10, 0, 8);
        self.code.set(Reg::Rbx, empty);
        self.code.load_idt(Reg::Rbx);
        self.code.undefined();
    }

    /// Does nothing any more.
    pub(crate) fn halt(&mut self) {
        let again = self.code.here();
        self.code.halt();
        self.code.jump(again);
    }
}
