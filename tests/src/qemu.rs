// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! QEMU's command line.

use crate::assets::Assets;
use crate::drive::Drive;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// QEMU's generic vhost-user device knows no id 60; this one is reserved and
/// never specified, and the module is told of it by `test_device_id`.
pub(crate) const TEST_DEVICE_ID: u32 = 13;

/// Name of the device in QEMU, and of the port that it is plugged into.
pub(crate) const DEVICE: &str = "tmem0";
const PORT: &str = "port0";

/// Descriptors in each of the device's queues.
pub(crate) const QUEUE_SIZE: u32 = 256;

/// The device's properties beside its place and back end. `virtqueues` counts
/// the event queue.
pub(crate) fn device(virtqueues: u32, queue_size: u32) -> Value {
    json!({
        "driver": "vhost-user-test-device-pci",
        "id": DEVICE,
        "bus": PORT,
        "virtio-id": TEST_DEVICE_ID,
        "num_vqs": virtqueues,
        "vq_size": queue_size,
        "config_size": 64,
    })
}

/// The kernel's command line. On a busy machine an emulated timer ticks too late to pass its check.
/// Tests of ciphers take half a second of each boot.
const CMDLINE: &str =
    "console=ttyS0 loglevel=7 panic=-1 oops=panic no_timer_check cryptomgr.notests";

/// What an emulated guest is told of its TSC, which is the host's: on a busy machine it measures
/// wrong, does not trust it, and reads the time from a device, which costs a fifth of all that it
/// does. It still watches over the TSC.
fn tsc() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let khz = khz(&cpus).filter(|_| !has_kvm());
    khz.map_or_else(String::new, |khz| format!(" tsc_early_khz={khz}"))
}

/// The frequency of the first CPU in the text of /proc/cpuinfo.
fn khz(cpus: &str) -> Option<u64> {
    let line = cpus.lines().find(|line| line.starts_with("cpu MHz"))?;
    let (_, mhz) = line.split_once(": ")?;
    let (whole, part) = mhz.split_once('.')?;
    format!("{whole}{part:0<3.3}").parse().ok()
}

/// How long QEMU waits before it connects to a disk's daemon again, in milliseconds.
const RECONNECT_MS: u32 = 500;

/// What differs between guests.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    pub(crate) initramfs: &'a Path,
    /// Sockets of ours that QEMU connects to, and the console's log.
    pub(crate) monitor: &'a Path,
    pub(crate) agent: &'a Path,
    pub(crate) console: &'a Path,
    /// The daemon's socket and the device's properties, if it is there from
    /// the start.
    pub(crate) device: Option<(&'a Path, Value)>,
    pub(crate) drives: &'a [Drive],
    pub(crate) vhost_disks: &'a [PathBuf],
    pub(crate) balloon: bool,
    pub(crate) translated_mib: Option<u32>,
    pub(crate) plugin: Option<&'a (PathBuf, String)>,
    /// For a guest in the guest: a socket for its agent's port and a file for
    /// its console.
    pub(crate) inner: Option<(PathBuf, PathBuf)>,
}

/// Whether the host's KVM can run a stock kernel: a hypervisor may offer a
/// /dev/kvm without hardware behind it, which cannot.
pub(crate) fn has_kvm() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = flags
        .split_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm");
    let usable = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    hardware && usable
}

/// The command that runs `machine`.
pub(crate) fn command(assets: &Assets, machine: &Machine<'_>) -> Command {
    let mut words = assets.qemu.iter();
    let mut qemu = Command::new(words.next().map(AsRef::as_ref).unwrap_or(Path::new("")));
    qemu.args(words);
    // Its modules lie beside the program only when it is not run through a
    // loader.
    qemu.env("QEMU_MODULE_DIR", &assets.qemu_modules);
    for dir in &assets.qemu_data {
        qemu.arg("-L").arg(dir);
    }
    let memory = format!("{}M", machine.memory_mib);
    let (accelerator, cpu) = match machine.translated_mib {
        _ if has_kvm() && machine.plugin.is_none() => ("kvm".to_string(), "host"),
        None => ("tcg,thread=multi".to_string(), "max"),
        Some(mib) => (format!("tcg,thread=multi,tb-size={mib}"), "max"),
    };
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-accel", &accelerator, "-cpu", cpu])
        .args(["-M", "q35,memory-backend=mem", "-m", &memory])
        .args(["-smp", &machine.cpus.to_string()])
        // The daemon reads and writes guest memory, so it is shared.
        .arg("-object")
        .arg(format!("memory-backend-memfd,id=mem,size={memory},share=on"))
        .arg("-kernel")
        .arg(machine.kernel)
        .arg("-initrd")
        .arg(machine.initramfs)
        .arg("-append")
        .arg(format!("{CMDLINE}{}", tsc()))
        .args(["-device", &format!("pcie-root-port,id={PORT},chassis=1")]);
    // The first serial port is the console, the second the agent's.
    qemu.arg("-chardev")
        .arg(format!(
            "file,id=console,path={}",
            machine.console.display()
        ))
        .args(["-serial", "chardev:console"])
        .arg("-chardev")
        .arg(format!("socket,id=agent,path={}", machine.agent.display()))
        .args(["-serial", "chardev:agent"])
        .arg("-chardev")
        .arg(format!("socket,id=qmp,path={}", machine.monitor.display()))
        .args(["-mon", "chardev=qmp,mode=control"]);
    if let Some((agent, console)) = &machine.inner {
        // The guest's /dev/ttyS2 and ttyS3. By default they would share the
        // interrupts of the first two, which an ISA bus cannot do well.
        qemu.arg("-chardev")
            .arg(format!("socket,id=inner-agent,path={}", agent.display()))
            .arg("-device")
            .arg("isa-serial,chardev=inner-agent,index=2,iobase=0x3e8,irq=10")
            .arg("-chardev")
            .arg(format!("file,id=inner-console,path={}", console.display()))
            .arg("-device")
            .arg("isa-serial,chardev=inner-console,index=3,iobase=0x2e8,irq=11");
    }
    for (number, drive) in machine.drives.iter().enumerate() {
        qemu.args(drive.words(number));
    }
    for (number, socket) in machine.vhost_disks.iter().enumerate() {
        let id = format!("vhost{number}");
        qemu.arg("-chardev")
            .arg(format!(
                "socket,id={id},path={},reconnect-ms={RECONNECT_MS}",
                socket.display()
            ))
            .args([
                "-device",
                &format!("vhost-user-blk-pci,id={id}-disk,chardev={id}"),
            ]);
    }
    if let Some((file, told)) = machine.plugin {
        qemu.arg("-plugin")
            .arg(format!("file={},{told}", file.display()));
    }
    if machine.balloon {
        qemu.args(["-device", "virtio-balloon-pci,free-page-reporting=on"]);
    }
    if let Some((socket, device)) = &machine.device {
        let mut device = device.clone();
        if let Some(device) = device.as_object_mut() {
            device.insert("chardev".into(), DEVICE.into());
        }
        qemu.arg("-chardev")
            .arg(format!("socket,id={DEVICE},path={}", socket.display()))
            .args(["-device", &device.to_string()]);
    }
    qemu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequency_is_what_the_kernel_says() {
        let text = |mhz| {
            format!("processor\t: 0\ncpu MHz\t\t: {mhz}\ncache size\t: 1 KB\ncpu MHz\t\t: 1.0\n")
        };
        assert_eq!(khz(&text("2596.148")), Some(2_596_148));
        assert_eq!(khz(&text("2596.1")), Some(2_596_100));
        assert_eq!(khz(&text("2596.14899")), Some(2_596_148));
        assert_eq!(khz(&text("unknown")), None);
        assert_eq!(khz(""), None);
    }
}
