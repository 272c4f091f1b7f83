// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An assembler for guests of some dozen instructions (Intel SDM, volume 2).
//! Operands are 64 bits wide where nothing else is said.

/// A register, by its number in an instruction. The stack pointer is not among
/// them, nor is `rbp`: as addresses they are encoded otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reg {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsi = 6,
    Rdi = 7,
}

/// Bytes that an access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    One = 1,
    Two = 2,
    Four = 4,
    Eight = 8,
}

/// When to jump.
#[derive(Clone, Copy, Debug)]
pub(crate) enum If {
    Equal = 4,
    Different = 5,
}

/// A place in the code, perhaps a later one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label(usize);

/// Prefixes: operands of 16 and of 64 bits; repeat (while equal, for `cmps`).
const SHORT: u8 = 0x66;
const LONG: u8 = 0x48;
const REP: u8 = 0xf3;

/// Machine code in the making.
#[derive(Debug, Default)]
pub(crate) struct Code {
    bytes: Vec<u8>,
    labels: Vec<Option<usize>>,
    /// Where the distance to a label is to be put.
    jumps: Vec<(usize, Label)>,
}

impl Code {
    fn emit(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The finished code.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (at, label) in &self.jumps {
            let target = self.labels[label.0].expect("a label is placed");
            let distance = i32::try_from(target).unwrap() - i32::try_from(at + 4).unwrap();
            bytes[*at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        bytes
    }

    /// A label, to be placed later.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(crate) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.bytes.len());
    }

    /// A label that is here.
    pub(crate) fn here(&mut self) -> Label {
        let label = self.label();
        self.place(label);
        label
    }

    /// The distance to `label`, which an instruction ends with.
    fn to(&mut self, label: Label) {
        self.jumps.push((self.bytes.len(), label));
        self.emit(&[0; 4]);
    }

    /// `jmp label`
    pub(crate) fn jump(&mut self, label: Label) {
        self.emit(&[0xe9]);
        self.to(label);
    }

    /// `jcc label`
    pub(crate) fn jump_if(&mut self, when: If, label: Label) {
        self.emit(&[0x0f, 0x80 | when as u8]);
        self.to(label);
    }

    /// `mov reg, value`
    pub(crate) fn set(&mut self, reg: Reg, value: u64) {
        self.emit(&[LONG, 0xb8 | reg as u8]);
        self.emit(&value.to_le_bytes());
    }

    /// `add reg, value`
    pub(crate) fn add(&mut self, reg: Reg, value: i32) {
        self.emit(&[LONG, 0x81, 0xc0 | reg as u8]);
        self.emit(&value.to_le_bytes());
    }

    /// `and reg, value`, which is extended by its sign.
    pub(crate) fn and(&mut self, reg: Reg, value: i32) {
        self.emit(&[LONG, 0x81, 0xe0 | reg as u8]);
        self.emit(&value.to_le_bytes());
    }

    /// `cmp reg, value`, which is extended by its sign.
    pub(crate) fn compare(&mut self, reg: Reg, value: i32) {
        self.emit(&[LONG, 0x81, 0xf8 | reg as u8]);
        self.emit(&value.to_le_bytes());
    }

    /// `cmp left, right`
    pub(crate) fn compare_with(&mut self, left: Reg, right: Reg) {
        self.emit(&[LONG, 0x39, 0xc0 | (right as u8) << 3 | left as u8]);
    }

    /// `mov [at], from`
    pub(crate) fn store(&mut self, width: Width, at: Reg, from: Reg) {
        let operands = (from as u8) << 3 | at as u8;
        match width {
            Width::One => {
                assert!(
                    (from as u8) < 4,
                    "the others' lowest bytes are other registers"
                );
                self.emit(&[0x88, operands]);
            }
            Width::Two => self.emit(&[SHORT, 0x89, operands]),
            Width::Four => self.emit(&[0x89, operands]),
            Width::Eight => self.emit(&[LONG, 0x89, operands]),
        }
    }

    /// `mov to, [at]`, the rest of `to` zero (for one and two bytes: `movzx`).
    pub(crate) fn load(&mut self, width: Width, to: Reg, at: Reg) {
        let operands = (to as u8) << 3 | at as u8;
        match width {
            Width::One => self.emit(&[0x0f, 0xb6, operands]),
            Width::Two => self.emit(&[0x0f, 0xb7, operands]),
            Width::Four => self.emit(&[0x8b, operands]),
            Width::Eight => self.emit(&[LONG, 0x8b, operands]),
        }
    }

    /// `out dx, al` (`ax`, `eax`)
    pub(crate) fn out(&mut self, width: Width) {
        self.port(width, 0xee);
    }

    /// `in al, dx` (`ax`, `eax`)
    pub(crate) fn input(&mut self, width: Width) {
        self.port(width, 0xec);
    }

    fn port(&mut self, width: Width, opcode: u8) {
        match width {
            Width::One => self.emit(&[opcode]),
            Width::Two => self.emit(&[SHORT, opcode | 1]),
            Width::Four => self.emit(&[opcode | 1]),
            Width::Eight => panic!("ports have at most four bytes"),
        }
    }

    /// `rep outsb`: `rcx` bytes from `[rsi]` to port `dx`.
    pub(crate) fn out_string(&mut self) {
        self.emit(&[REP, 0x6e]);
    }

    /// `repe cmpsb` (`cmpsq`): `rcx` bytes (eights of bytes) at `[rsi]` with
    /// those at `[rdi]`.
    pub(crate) fn compare_strings(&mut self, width: Width) {
        match width {
            Width::One => self.emit(&[REP, 0xa6]),
            Width::Eight => self.emit(&[REP, LONG, 0xa7]),
            Width::Two | Width::Four => panic!("not needed so far"),
        }
    }

    /// `hlt`
    pub(crate) fn halt(&mut self) {
        self.emit(&[0xf4]);
    }

    /// `pause`
    pub(crate) fn pause(&mut self) {
        self.emit(&[0xf3, 0x90]);
    }

    /// `sti`; nothing interrupts before the next instruction has ended.
    pub(crate) fn enable_interrupts(&mut self) {
        self.emit(&[0xfb]);
    }

    /// `lidt [at]`
    pub(crate) fn load_idt(&mut self, at: Reg) {
        self.emit(&[0x0f, 0x01, 3 << 3 | at as u8]);
    }

    /// `ud2`: an instruction that is none.
    pub(crate) fn undefined(&mut self) {
        self.emit(&[0x0f, 0x0b]);
    }

    /// `fld dword [at]`, which KVM does not emulate.
    pub(crate) fn load_float(&mut self, at: Reg) {
        self.emit(&[0xd9, at as u8]);
    }
}
