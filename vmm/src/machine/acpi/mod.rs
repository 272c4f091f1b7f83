// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ACPI tables: the only place where a stock kernel learns of virtio-mmio
//! devices, vCPUs and interrupts. The machine is "hardware-reduced" (ACPI 6.5,
//! section 4.1): no legacy power management, timers or interrupt controller.

mod dsdt;
mod tables;

use acpi_tables::Aml;
use acpi_tables::fadt::FADTBuilder;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use anyhow::{Context, Result, ensure};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::layout;

/// Who made the tables.
const OEM: [u8; 6] = *b"TMEM  ";
const TABLE: [u8; 8] = *b"TMEMVMM ";
const REVISION: u32 = 1;

/// A virtio device's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioSlot {
    /// Address of its registers.
    pub address: u32,
    /// Its interrupt.
    pub gsi: u32,
}

/// What the tables tell of.
#[derive(Clone, Debug, Default)]
pub struct Hardware {
    /// vCPUs; their APIC ids count from 0.
    pub cpus: u8,
    /// virtio-mmio devices.
    pub virtio: Vec<VirtioSlot>,
    /// Serial ports: I/O port and interrupt.
    pub serial: Vec<(u16, u32)>,
}

/// Writes the tables, with the root pointer at [`layout::ACPI`].
///
/// # Errors
/// When they do not fit.
pub fn write(memory: &GuestMemoryMmap, hardware: &Hardware) -> Result<()> {
    let mut writer = Writer {
        memory,
        next: layout::ACPI + Rsdp::len() as u64,
    };
    let dsdt = writer.put(&dsdt::dsdt(hardware))?;
    let fadt = writer.put(&tables::fadt(dsdt))?;
    let madt = writer.put(&tables::madt(hardware.cpus))?;
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = writer.put(&xsdt)?;
    writer.next = layout::ACPI;
    writer.put(&Rsdp::new(OEM, xsdt))?;
    Ok(())
}

struct Writer<'a> {
    memory: &'a GuestMemoryMmap,
    next: u64,
}

impl Writer<'_> {
    fn put(&mut self, table: &dyn Aml) -> Result<u64> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        let at = self.next;
        let end = at + bytes.len() as u64;
        ensure!(
            end <= layout::KERNEL,
            "the ACPI tables do not fit below 1 MiB"
        );
        self.memory
            .write_slice(&bytes, GuestAddress(at))
            .context("the ACPI tables do not fit into the guest's memory")?;
        self.next = end.next_multiple_of(16);
        Ok(at)
    }
}

/// The revision that the differentiated description table has.
fn dsdt_header() -> Sdt {
    Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION)
}

fn fadt_builder() -> FADTBuilder {
    FADTBuilder::new(OEM, TABLE, REVISION)
}

#[cfg(test)]
mod tests;
