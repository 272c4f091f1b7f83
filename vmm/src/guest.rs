// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest boots, where the command line leaves it open.

use std::path::{Path, PathBuf};

use crate::cli::Options;

/// Console on the first serial port; a panic ends the machine at once.
const CONSOLE: &str = "console=ttyS0 panic=-1";

/// The initial ramdisk: the one that was asked for, or Debian's name for what
/// belongs to the kernel.
pub fn initrd(options: &Options) -> Option<PathBuf> {
    match &options.initrd {
        Some(none) if none.as_os_str() == "none" => None,
        Some(path) => Some(path.clone()),
        None => beside(&options.kernel).filter(|path| path.is_file()),
    }
}

/// `initrd.img-6.12` for `vmlinuz-6.12`, in the same directory.
fn beside(kernel: &Path) -> Option<PathBuf> {
    let name = kernel.file_name()?.to_str()?;
    let suffix = name.strip_prefix("vmlinuz")?;
    Some(kernel.with_file_name(format!("initrd.img{suffix}")))
}

/// The kernel's command line. `partitioned`: whether the first disk carries
/// partitions; `None`: there is no disk.
pub fn command_line(options: &Options, partitioned: Option<bool>) -> String {
    if let Some(text) = &options.cmdline {
        return text.clone();
    }
    match partitioned {
        Some(true) => format!("{CONSOLE} root=/dev/vda1 rw"),
        Some(false) => format!("{CONSOLE} root=/dev/vda rw"),
        None => CONSOLE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(arguments: &[&str]) -> Options {
        Options::parse_from(["tmem-vmm"].iter().chain(arguments))
    }

    #[test]
    fn a_debian_kernel_brings_its_initrd() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("initrd.img-7.2"), "x").unwrap();
        let kernel = |name| format!("--kernel={}", at(name).display());
        assert_eq!(
            initrd(&options(&[&kernel("vmlinuz-7.2")])),
            Some(at("initrd.img-7.2"))
        );
        assert_eq!(initrd(&options(&[&kernel("vmlinuz-7.3")])), None);
        assert_eq!(initrd(&options(&[&kernel("vmlinux")])), None);
        let none = [&*kernel("vmlinuz-7.2"), "--initrd=none"];
        assert_eq!(initrd(&options(&none)), None);
        let other = [&*kernel("vmlinuz-7.2"), "--initrd=/other"];
        assert_eq!(initrd(&options(&other)), Some("/other".into()));
    }

    #[test]
    fn the_root_is_the_first_partition_or_the_disk() {
        let plain = options(&["--kernel=k"]);
        assert_eq!(command_line(&plain, None), CONSOLE);
        assert!(command_line(&plain, Some(true)).ends_with("root=/dev/vda1 rw"));
        assert!(command_line(&plain, Some(false)).ends_with("root=/dev/vda rw"));
        let own = options(&["--kernel=k", "--cmdline=quiet"]);
        assert_eq!(command_line(&own, Some(true)), "quiet");
    }
}
