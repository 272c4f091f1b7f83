// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the initramfs to the disk that the kernel's command line names: the
//! stock kernel has its block driver as a module, so it cannot do this itself.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::mount::MountFlags;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// What finds a virtio disk: on ACPI's virtio-mmio, or on PCI, which the stock
/// kernel has built in.
const MODULES: [&str; 2] = ["virtio_mmio", "virtio_blk"];

/// For the disk to appear.
const APPEARS: Duration = Duration::from_secs(30);

/// Between two looks for it.
const PAUSE: Duration = Duration::from_millis(10);

/// Where it is mounted before it becomes the root.
const MOUNT: &str = "/root";

/// The first program on the disk.
const INIT: &str = "/sbin/init";

/// statfs types of a root file system in memory (Linux, uapi/linux/magic.h).
const IN_MEMORY: [i64; 2] = [0x8584_58f6, 0x0102_1994];

/// What the kernel's command line says about the root.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    device: &'a str,
    writable: bool,
}

/// Makes the disk that `root=` names the root and runs its init, if there is
/// such a word and this is the initramfs. `mounts` go along. Gives back if
/// there is nothing to do.
pub(crate) fn switch(mounts: &[&str]) -> Result<()> {
    let line = std::fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    let Some(wanted) = wanted(&line) else {
        return Ok(());
    };
    if !in_memory()? {
        return Ok(());
    }
    for module in MODULES {
        let status = Command::new("/usr/sbin/modprobe")
            .arg(module)
            .status()
            .context("cannot start modprobe")?;
        if !status.success() {
            bail!("modprobe {module} failed ({status})");
        }
    }
    appears(Path::new(wanted.device))?;
    let flags = if wanted.writable {
        MountFlags::empty()
    } else {
        MountFlags::RDONLY
    };
    std::fs::create_dir_all(MOUNT).with_context(|| format!("cannot make {MOUNT}"))?;
    rustix::mount::mount(wanted.device, MOUNT, "ext4", flags, None)
        .with_context(|| format!("cannot mount {} as ext4", wanted.device))?;
    for place in mounts {
        rustix::mount::mount_move(*place, format!("{MOUNT}{place}").as_str())
            .with_context(|| format!("cannot take {place} along to {}", wanted.device))?;
    }
    std::env::set_current_dir(MOUNT).with_context(|| format!("cannot go to {MOUNT}"))?;
    rustix::mount::mount_move(".", "/").context("cannot move the root")?;
    rustix::process::chroot(".").context("cannot change the root")?;
    let error = Command::new(INIT).exec();
    Err(error).with_context(|| format!("cannot run {INIT} of {}", wanted.device))
}

/// Has a root on a disk whole on the disk: before the machine goes off.
pub(crate) fn settle() -> Result<()> {
    rustix::fs::sync();
    if !in_memory()? {
        rustix::mount::mount_remount("/", MountFlags::RDONLY, "")
            .context("cannot make the root read-only")?;
    }
    Ok(())
}

fn in_memory() -> Result<bool> {
    let root = rustix::fs::statfs("/").context("cannot tell what / is")?;
    Ok(IN_MEMORY.contains(&root.f_type))
}

fn appears(device: &Path) -> Result<()> {
    let end = Instant::now() + APPEARS;
    while !device.exists() {
        if Instant::now() >= end {
            bail!("the disk {} did not appear", device.display());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// As the kernel does, takes the last word that says something, and mounts
/// read-only if none says otherwise.
fn wanted(line: &str) -> Option<Wanted<'_>> {
    let mut device = None;
    let mut writable = false;
    for word in line.split_whitespace() {
        match word {
            "ro" => writable = false,
            "rw" => writable = true,
            _ => device = word.strip_prefix("root=").or(device),
        }
    }
    Some(Wanted {
        device: device?,
        writable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_the_root() {
        assert_eq!(
            wanted("console=ttyS0 root=/dev/vda rw panic=-1\n"),
            Some(Wanted {
                device: "/dev/vda",
                writable: true
            })
        );
        assert_eq!(
            wanted("root=/dev/vda rw root=/dev/vdb1 ro"),
            Some(Wanted {
                device: "/dev/vdb1",
                writable: false
            })
        );
        assert_eq!(wanted("console=ttyS0 rw noroot=/dev/vda"), None);
    }
}
