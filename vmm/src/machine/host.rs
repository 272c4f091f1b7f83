// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host's KVM is and can do.

use std::io;

use anyhow::{Result, bail, ensure};
use kvm_ioctls::{Cap, Kvm};

/// The version that has not changed since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// What a machine here is built on.
const NEEDED: [(Cap, &str); 6] = [
    (Cap::Irqchip, "interrupt controllers in the kernel"),
    (Cap::Irqfd, "interrupts by file descriptor"),
    (Cap::Ioeventfd, "notifications by file descriptor"),
    (Cap::UserMemory, "memory of this process"),
    (Cap::SetTssAddr, "a place for its task state"),
    (Cap::ExtCpuid, "a processor identification"),
];

/// Opens `/dev/kvm`.
///
/// # Errors
/// A sentence about why it cannot be used, with the way out.
pub fn open() -> Result<Kvm> {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => bail!(refusal(error.errno())),
    };
    let version = kvm.get_api_version();
    ensure!(
        version == API_VERSION,
        "this KVM speaks version {version}, not {API_VERSION}: it is not Linux's"
    );
    for (cap, what) in NEEDED {
        ensure!(
            kvm.check_extension(cap),
            "this machine's KVM has no {what}; use a newer kernel on the host"
        );
    }
    Ok(kvm)
}

fn refusal(errno: i32) -> String {
    match errno {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => {
            "there is no /dev/kvm: load the module kvm-intel or kvm-amd, and see that \
             virtualisation is switched on in the firmware"
                .into()
        }
        libc::EACCES | libc::EPERM => {
            "no permission to use /dev/kvm: add yourself to the group that it belongs to, as in \
             `sudo usermod --append --groups kvm $USER`, and log in again"
                .into()
        }
        other => format!(
            "cannot open /dev/kvm: {}",
            io::Error::from_raw_os_error(other)
        ),
    }
}

/// Ends a sentence about a guest that KVM cannot run, where the reason is
/// known: a KVM without hardware behind it runs only guests made for it.
pub(super) fn hint() -> &'static str {
    if has_hardware() {
        ""
    } else {
        "; this machine's processor offers no hardware virtualisation (neither vmx nor svm in \
         /proc/cpuinfo), so its KVM runs only guests that are made for it: use another machine"
    }
}

/// Whether the processor offers hardware virtualisation.
pub fn has_hardware() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "vmx" || flag == "svm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_do() {
        assert!(refusal(libc::ENOENT).contains("load the module"));
        assert!(refusal(libc::EACCES).contains("usermod"));
        assert!(refusal(libc::EMFILE).contains("cannot open /dev/kvm: Too many open files"));
    }
}
