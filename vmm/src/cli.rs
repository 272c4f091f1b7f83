// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser};
use log::LevelFilter;
use tmem_cli::size;

use crate::confine::Level;
use crate::machine::{layout, memory};
use crate::serial::{self, Target};
use crate::virtio::block::DiskOptions;
use crate::virtio::net::NetOptions;
use crate::virtio::tmem::Tmem;

/// Run a virtual machine with transcendent memory
///
/// Boots a Linux kernel on KVM; the guest's console is on the terminal.
///
///   tmem-vmm --kernel vmlinuz --initrd initrd.img --disk debian.raw
///     --memory 512M --cpus 2 --tmem quota=4G
///
///   tmem-vmm --kernel vmlinuz --disk debian.raw --memory 512M
///     --tmem socket=/run/tmem/web1.sock
///
///   tmem-vmm --kernel vmlinuz --disk debian.raw --memory 512M
///     --tmem-swap socket=/run/tmem/web1.sock
///
/// In the guest, `modprobe virtio_tmem` attaches to the store. The devices are
/// virtio-mmio, which Debian's kernels have as modules: their initrd loads them.
///
/// Sizes are bytes, or a number with K, M, G or T (powers of 1024).
///
/// Keys on a terminal: Ctrl-A x ends the machine, Ctrl-A h shows the others.
///
/// Exit codes: 0 the guest switched off, or the machine was ended from outside;
/// 1 it could not be run; 2 the command line is wrong; 3 the guest reset;
/// 4 the guest crashed.
#[derive(Clone, Debug, Parser)]
#[command(name = "tmem-vmm", version, verbatim_doc_comment)]
pub struct Options {
    /// Kernel: a bzImage (as in /boot/vmlinuz-...) or an ELF file
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,

    /// Initial ramdisk, or 'none' [default: beside a kernel called vmlinuz...
    /// the file initrd.img..., if there is one]
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// Kernel command line [default: console=ttyS0 panic=-1, and with a disk
    /// root=/dev/vda1 rw, or root=/dev/vda rw if it has no partitions]
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,

    /// The guest's memory
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = size::parse)]
    pub memory: u64,

    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=254))]
    pub cpus: u8,

    /// Back the guest's memory with huge pages of 2 MiB. The guest keeps them;
    /// see give-back
    #[arg(long)]
    pub hugepages: bool,

    /// Disk: a raw file or a block device; may be given many times:
    /// PATH or path=PATH[,readonly=on][,format=raw]
    ///   format  takes an image as it is that looks like qcow2, VMDK, gzip, ...
    #[arg(long, value_name = "DISK", verbatim_doc_comment)]
    pub disk: Vec<DiskOptions>,

    /// Network card on an existing tap; may be given many times:
    /// tap=NAME[,mac=MAC]
    #[arg(long, value_name = "NET", verbatim_doc_comment)]
    pub net: Vec<NetOptions>,

    /// Transcendent memory, from a store in this process or from a daemon:
    /// quota=SIZE[,swap-size=SIZE][,memory-limit=SIZE][,queues=N][,serve=vcpu|thread]
    ///   [,codec=auto|lz4|zstd|none][,give-back=certain|any][,name=NAME]
    /// socket=PATH[,queues=N]
    ///   quota         most memory that the guest's pages take on the host
    ///   swap-size     swap disk that the guest is granted [default: twice the quota]
    ///   memory-limit  most that the quota can be raised to [default: twice the quota,
    ///                 or the host's memory if that is less]
    ///   queues        request queues [default: 2]
    ///   serve         whether the thread of the vCPU serves a request itself
    ///                 or leaves it to another [default: vcpu]
    ///   codec         lz4, none, or auto: lz4, and zstd for pages that were not used
    ///                 for half a minute [default: auto]
    ///   give-back     memory that the guest may give back: what is certain to come
    ///                 back, or any: also huge pages, without which the guest ends
    ///                 if the host has none when it needs them [default: certain]
    ///   name          what tmemctl and metrics call the guest [default: guest]
    ///   socket        socket of vhost-user-tmem; it may come later, and come back
    #[arg(long, value_name = "TMEM", value_parser = Tmem::parse, verbatim_doc_comment)]
    pub tmem: Option<Tmem>,

    /// Swap disk for a guest without the driver, from a store in this process or from a
    /// daemon: a plain virtio-blk disk with a swap header, after those of --disk:
    /// SIZE[,quota=SIZE][,memory-limit=SIZE][,queues=N][,serve=vcpu|thread]
    ///   [,codec=auto|lz4|zstd|none][,name=NAME]
    /// socket=PATH[,queues=N]
    ///   quota         most memory that its pages take on the host; writes beyond it
    ///                 fail [default: half of the size]
    ///   socket        that of a virtual machine of vhost-user-tmem with
    ///                 personality=blk; until it is there, the disk has no size
    ///   the others    as of --tmem
    #[arg(long, value_name = "SWAP", value_parser = Tmem::parse_swap, conflicts_with = "tmem", verbatim_doc_comment)]
    pub tmem_swap: Option<Tmem>,

    /// Serial port; the first is ttyS0 [default: tty], the second ttyS1:
    /// tty          the terminal that this program runs on
    /// null         nothing
    /// file=PATH    output is added to a file
    /// path=PATH    a character device
    /// socket=PATH  a Unix socket that somebody listens on
    #[arg(long, value_name = "PORT", verbatim_doc_comment)]
    pub serial: Vec<Target>,

    /// Unix socket for the API, over HTTP: that of vhost-user-tmem's control
    /// socket, for tmemctl --control PATH, and
    /// GET /v1/vm, PUT /v1/vm/pause, /v1/vm/resume, /v1/vm/shutdown {"force": BOOL};
    /// GET /metrics, /v1/stats, /v1/openapi.json. For root and the program's own user
    #[arg(long, value_name = "PATH", verbatim_doc_comment)]
    pub api_socket: Option<PathBuf>,

    /// Group whose members may use the API socket, too: it is theirs, with mode 0660
    #[arg(long, value_name = "GROUP", requires = "api_socket")]
    pub api_group: Option<String>,

    /// What happens at a system call that a thread has no use for: 'on' ends
    /// the program, 'log' has the kernel log it, 'off' allows all
    #[arg(long, value_name = "LEVEL", default_value = "on")]
    pub seccomp: Level,

    /// What to log to stderr: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: LevelFilter,
}

impl Options {
    /// The device in front of a store, if one is asked for.
    pub fn tmem(&self) -> Option<Tmem> {
        self.tmem.clone().or_else(|| self.tmem_swap.clone())
    }

    /// Looks for what cannot be on any machine.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn check(&self) -> Result<(), String> {
        serial::check(&self.serial).map_err(|mistake| format!("--serial: {mistake}"))?;
        // Beside these there is the random number device.
        let devices = self.disk.len() + self.net.len() + usize::from(self.tmem().is_some()) + 1;
        let room = layout::VIRTIO_GSIS.count();
        if devices > room {
            return Err(format!(
                "a machine has room for {room} devices, and these are {devices}; leave out some \
                 of --disk and --net"
            ));
        }
        memory::check(self.memory, self.hugepages)
    }
}

/// The command line's definition, for the man page.
pub fn command() -> clap::Command {
    Options::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_sound() {
        super::command().debug_assert();
    }
}
