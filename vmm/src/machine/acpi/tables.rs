// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables with a fixed form.

use acpi_tables::fadt::{FADT, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};

use super::{OEM, REVISION, TABLE, fadt_builder};
use crate::machine::{layout, power};

/// IA-PC boot flags (ACPI 6.5, table 5.10): no VGA, and no clock of a PC's. A
/// flag that is not set says that there is no 8042: a driver would look for the
/// keyboard, and there is only the reset line.
const NO_VGA: u16 = 1 << 2;
const NO_CMOS_CLOCK: u16 = 1 << 5;

/// The fixed description table (ACPI 6.5, section 5.2.9).
pub(super) fn fadt(dsdt: u64) -> FADT {
    let mut fadt = fadt_builder()
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        // No fixed buttons: there is one as a device.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS_CLOCK).into();
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.finalize()
}

fn port(offset: u16) -> GAS {
    let address = u64::from(layout::POWER + offset);
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        address,
    )
}

/// The interrupt controllers (ACPI 6.5, section 5.2.12).
pub(super) fn madt(cpus: u8) -> MADT {
    let local = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM, TABLE, REVISION, local);
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    madt
}
