// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The devices: the differentiated description table (ACPI 6.5, section
//! 5.2.11.1).

use acpi_tables::Aml;
use acpi_tables::aml::{
    And, Device, EISAName, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule,
    FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed, Method, Name, Notify, ONE, OpRegion,
    OpRegionSpace, Package, Path, ResourceTemplate, Scope, Store, ZERO,
};
use acpi_tables::sdt::Sdt;

use super::{Hardware, VirtioSlot, dsdt_header};
use crate::machine::{layout, power};
use crate::virtio::mmio;

/// What a pressed button is notified of with (ACPI 6.5, table 5.158).
const PRESSED: u8 = 0x80;

/// The table.
pub(super) fn dsdt(hardware: &Hardware) -> Sdt {
    let mut body = Vec::new();
    for (number, (port, gsi)) in (1u8..).zip(&hardware.serial) {
        serial(number, *port, *gsi, &mut body);
    }
    for (number, slot) in (0u8..).zip(&hardware.virtio) {
        virtio(number, *slot, &mut body);
    }
    button(&mut body);
    let mut dsdt = dsdt_header();
    dsdt.append_slice(&Scope::raw("_SB_".into(), body));
    let mut sleep = Vec::new();
    Name::new(
        "_S5_".into(),
        &Package::new(vec![&power::SOFT_OFF, &ZERO, &ZERO, &ZERO]),
    )
    .to_aml_bytes(&mut sleep);
    dsdt.append_slice(&sleep);
    dsdt
}

fn serial(number: u8, port: u16, gsi: u32, to: &mut Vec<u8>) {
    Device::new(
        format!("COM{number}").as_str().into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &number),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &Interrupt::new(true, true, false, false, gsi),
                    &IO::new(port, port, 1, 8),
                ]),
            ),
        ],
    )
    .to_aml_bytes(to);
}

fn virtio(number: u8, slot: VirtioSlot, to: &mut Vec<u8>) {
    let size = u32::try_from(mmio::SIZE).unwrap_or(u32::MAX);
    Device::new(
        format!("VR{number:02}").as_str().into(),
        vec![
            &Name::new("_HID".into(), &"LNRO0005"),
            &Name::new("_UID".into(), &number),
            // Devices do not go past the caches.
            &Name::new("_CCA".into(), &ONE),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &Memory32Fixed::new(true, slot.address, size),
                    &Interrupt::new(true, true, false, false, slot.gsi),
                ]),
            ),
        ],
    )
    .to_aml_bytes(to);
}

/// The power button, and the generic event device through which it speaks
/// (ACPI 6.5, section 5.6.9).
fn button(to: &mut Vec<u8>) {
    Device::new(
        "PWRB".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C0C")),
            &Name::new("_UID".into(), &ZERO),
        ],
    )
    .to_aml_bytes(to);
    let port = layout::POWER + power::HAPPENED;
    Device::new(
        "GED_".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_UID".into(), &ZERO),
            &OpRegion::new("EVTR".into(), OpRegionSpace::SystemIO, &port, &ONE),
            &Field::new(
                "EVTR".into(),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::WriteAsZeroes,
                vec![FieldEntry::Named(*b"HAPP", 8)],
            ),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&Interrupt::new(
                    true,
                    true,
                    false,
                    false,
                    layout::POWER_GSI,
                )]),
            ),
            &Method::new(
                "_EVT".into(),
                1,
                true,
                vec![
                    &Store::new(&Local(0), &Path::new("HAPP")),
                    &And::new(&Local(1), &Local(0), &power::BUTTON),
                    &If::new(
                        &Equal::new(&Local(1), &power::BUTTON),
                        vec![&Notify::new(&Path::new("PWRB"), &PRESSED)],
                    ),
                ],
            ),
        ],
    )
    .to_aml_bytes(to);
}
