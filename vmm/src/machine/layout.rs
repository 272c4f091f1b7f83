// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where everything lies in the guest's physical address space and which
//! interrupts (GSIs) it has.

/// Memory up to here is contiguous; the rest begins at [`HIGH_MEMORY`].
/// Between the two lie the devices.
pub const LOW_MEMORY_END: u64 = 3 << 30;

/// Memory beyond the gap.
pub const HIGH_MEMORY: u64 = 4 << 30;

/// The global descriptor table.
pub const GDT: u64 = 0x500;

/// What the kernel is told at its start: "zero page" (Linux,
/// Documentation/arch/x86/zero-page.rst).
pub const BOOT_PARAMS: u64 = 0x7000;

/// Grows down from here.
pub const BOOT_STACK: u64 = 0x8ff0;

/// Page tables, three pages.
pub const PAGE_TABLES: u64 = 0x9000;

/// The kernel's command line.
pub const COMMAND_LINE: u64 = 0x2_0000;

/// Most bytes of the command line, its final zero included.
pub const COMMAND_LINE_SIZE: usize = 0x1_0000;

/// Memory below 1 MiB ends here.
pub const BASE_MEMORY_END: u64 = 0x9_fc00;

/// ACPI tables, up to 1 MiB. The root pointer comes first.
pub const ACPI: u64 = 0xe_0000;

/// The memory that a kernel is loaded to begins here.
pub const KERNEL: u64 = 1 << 20;

/// Highest address that an initial ramdisk may have, for kernels that do not
/// say (Linux, Documentation/arch/x86/boot.rst, `initrd_addr_max`).
pub const INITRD_MAX: u64 = 0x7fff_ffff;

/// Registers of the virtio devices, one after the other.
pub const VIRTIO: u64 = 0xd000_0000;

/// KVM's own three pages, on Intel's processors.
pub const KVM_TSS: u64 = 0xfffb_d000;

/// KVM's identity map, on Intel's processors.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// The interrupt controllers.
pub const IO_APIC: u32 = 0xfec0_0000;
/// See [`IO_APIC`].
pub const LOCAL_APIC: u32 = 0xfee0_0000;

/// The serial ports: I/O ports and interrupts, as on every PC.
pub const SERIAL: [(u16, u32); 2] = [(0x3f8, 4), (0x2f8, 3)];

/// Registers of [`power`](super::power), and its interrupt.
pub const POWER: u16 = 0x600;
/// See [`POWER`].
pub const POWER_GSI: u32 = 5;

/// Interrupts of virtio devices; the interrupt controller has 24.
pub const VIRTIO_GSIS: std::ops::RangeInclusive<u32> = 6..=23;
