// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use log::LevelFilter;
use tmem_cli::args::Exit;
use tmem_cli::size;
use virtio_tmem::device::Quota;

use crate::remote;
use crate::spill::{self, Spill};
use tmem_host::confine::Level;
use tmem_host::registry::values;

/// What `--print-capabilities` prints, after QEMU's conventions for
/// vhost-user back ends. QEMU's schema has no type for tmem.
pub const CAPABILITIES: &str = r#"{
  "type": "tmem"
}"#;

/// Serve transcendent memory to virtual machines over vhost-user
///
/// Holds cold pages of virtual machines in one compressed store. Each virtual
/// machine connects to a socket of its own; the socket is its identity. They are
/// given here, in files of the administrator, or by `tmemctl vm add`.
///
/// Example, with QEMU:
///
///   vhost-user-tmem --socket-path /run/tmem/vm1.sock --quota 2G
///
///   qemu-system-x86_64 -M q35,memory-backend=mem
///     -object memory-backend-memfd,id=mem,size=1G,share=on
///     -chardev socket,id=tmem,path=/run/tmem/vm1.sock
///     -device vhost-user-test-device-pci,chardev=tmem,virtio-id=13,num_vqs=3,vq_size=256,config_size=64 ...
///
/// Example, with Cloud Hypervisor:
///
///   cloud-hypervisor --memory size=1G,shared=on
///     --generic-vhost-user device_type=60,socket=/run/tmem/vm1.sock,queue_sizes=[256,256,256] ...
///
/// Sizes are bytes, or a number with K, M, G or T (powers of 1024).
#[derive(Clone, Debug, Parser)]
#[command(name = "vhost-user-tmem", version, verbatim_doc_comment)]
pub struct Options {
    /// Socket to listen on for one virtual machine; may be given many times.
    /// The machine is named after the file, without its extension
    #[arg(long, value_name = "PATH")]
    pub socket_path: Vec<PathBuf>,

    /// Listening socket that was inherited as this file descriptor, for one
    /// virtual machine, instead of --socket-path
    #[arg(long, value_name = "N")]
    pub fd: Option<i32>,

    /// Virtual machine with settings of its own; may be given many times:
    /// socket=PATH|fd=N[,name=NAME][,identity=UUID][,quota=QUOTA][,weight=N][,swap-size=SIZE]
    ///   [,codec=auto|lz4|zstd|none][,give-back=certain|any]
    ///   [,domain=NAME][,max-pools=N][,grace=SECONDS][,ephemeral-quota=SIZE]
    ///   [,personality=tmem|blk][,size=SIZE][,swapspace=on|off][,label=TEXT][,on-full=error]
    /// fd is a listening socket that was inherited as this file descriptor;
    /// identity is who it is for the next daemon, too [made from its name];
    /// weight is its part of the memory when that is short, to that of others [100];
    /// ephemeral-quota is what clean blocks may take of its quota [all of it];
    /// codec=auto compresses pages with lz4, and with zstd once they were not used
    /// for half a minute, lz4 with that alone, zstd does not wait, none not at all
    /// [auto];
    /// give-back=any lets it give back huge pages and files of limited file systems,
    /// too: it ends when the host has none left once it needs them [certain];
    /// personality=blk is a plain virtio-blk disk, for guests without the driver [tmem]:
    /// of this size [twice the quota], with a swap header already [on] that has this
    /// label [tmem]; writes beyond the quota fail
    #[arg(long, value_name = "SETTINGS", verbatim_doc_comment)]
    pub vm: Vec<String>,

    /// Print what this back end can do, as JSON, and exit
    #[arg(long)]
    pub print_capabilities: bool,

    /// Group that the sockets belong to; its members may connect
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,

    /// Mode of the sockets, in octal [default: 0600, or 0660 with
    /// --socket-group]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub socket_mode: Option<u32>,

    /// Most memory that one virtual machine's pages take on the host,
    /// compressed and with their bookkeeping: a size; or credit[:SIZE], as much as
    /// it has given back of its own memory, and SIZE more [64M]
    #[arg(long, value_name = "QUOTA", default_value = "1G", value_parser = values::quota)]
    pub quota: Quota,

    /// Swap disk that each virtual machine is granted [default: twice its
    /// quota; on credit 4G]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub swap_size: Option<u64>,

    /// Most memory that all virtual machines' pages take on the host together
    /// [default: half of the host's memory]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub memory_limit: Option<u64>,

    /// File or block device for persistent pages that the memory has no room for: those that
    /// were not used for long go there, compressed as they are. A file is made if it is not
    /// there, and has so many bytes, which are set aside; of a device as many are used
    /// [all of it]. It is this daemon's alone. What quotas promise may be as much as this
    /// and the memory together
    #[arg(long, value_name = "PATH[,size=SIZE]", value_parser = spill::parse)]
    pub spill: Option<Spill>,

    /// Valkey cluster for persistent pages that the memory has no room for, instead of a spill
    /// area: valkey://[USER@]HOST[:PORT][,HOST[:PORT]...][?KEY=VALUE[&KEY=VALUE...]]
    ///   replicas=N      replicas that have pages before they leave memory [1]
    ///   size=SIZE       most that pages take there [four times the memory limit]
    ///   namespace=NAME  what the daemon's keys begin with [the host's name]
    ///   timeout=SECONDS how long a guest waits for a page before it gets an error [30]
    ///   password-file=PATH  file with the password of USER, or of the default user
    ///   tls=on|PATH     encrypt, with the system's authorities or those of a PEM file [off]
    ///   tls-cert=PATH, tls-key=PATH  certificate for nodes that want one, and its key
    #[arg(long, value_name = "URL", value_parser = remote::parse, conflicts_with = "spill", verbatim_doc_comment)]
    pub remote: Option<tmem_remote::Settings>,

    /// Request queues of each device; with the event queue it has one
    /// virtqueue more
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=63))]
    pub request_queues: u32,

    /// Longest that a queue's thread looks at its ring before it sleeps, in
    /// microseconds: the next request of a driver that waits for each is answered sooner.
    /// For how long is learnt from how soon requests come, and other threads go first.
    /// A quarter of it after requests that nobody waits for. 0 for never
    #[arg(long, value_name = "MICROSECONDS", default_value = "200", value_parser = parse_micros)]
    pub poll_max: Duration,

    /// How long a virtual machine's pages are kept after its front end is
    /// gone, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub grace: Duration,

    /// Folder on tmpfs for the pages, made if it is not there: they outlive the daemon,
    /// however it ends, and the next one with the same folder takes them over. It is
    /// to be this user's alone, and nobody else may change what is in it
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,

    /// Lock page memory, so that it is not swapped out. The limit for that (LimitMEMLOCK= in
    /// the unit) has to be as large as the store can become
    #[arg(long)]
    pub lock_memory: bool,

    /// Socket of a process that was started with --holder and keeps pages until the
    /// next daemon takes them over. Where the service manager does that
    /// (FileDescriptorStoreMax= in the unit), it is not needed
    #[arg(long, value_name = "PATH")]
    pub keep_in: Option<PathBuf>,

    /// Serve nothing, but keep what daemons with --keep-in=PATH leave for the next
    #[arg(long, value_name = "PATH")]
    pub holder: Option<PathBuf>,

    /// Unix socket of the control API: tmemctl and Prometheus speak HTTP to it. For
    /// root and the daemon's own user. Not made if the service manager passes on a
    /// socket that is called 'control'; those that are called vm-NAME are of virtual
    /// machines
    #[arg(long, value_name = "PATH")]
    pub control_socket: Option<PathBuf>,

    /// Group whose members may use the control socket, too: it is theirs, with
    /// mode 0660
    #[arg(long, value_name = "GROUP", requires = "control_socket")]
    pub control_group: Option<String>,

    /// TCP address on which metrics can be read without the control socket, like
    /// 127.0.0.1:9749: GET /metrics and nothing else, by whoever reaches it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// Let metrics be on an address that other hosts reach
    #[arg(long)]
    pub metrics_remote: bool,

    /// Directory with a file NAME.toml for each virtual machine that the
    /// administrator sets up; it is read when the daemon starts [default:
    /// /etc/virtio-tmem, or none if a virtual machine is given here]
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,

    /// Directory that keeps the virtual machines that were added at run time
    /// [default: $STATE_DIRECTORY, or /var/lib/virtio-tmem if it is there, or none if a
    /// virtual machine is given here]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Directory for the sockets of virtual machines that have no path of their own:
    /// NAME.sock [default: $RUNTIME_DIRECTORY, or /run/tmem]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,

    /// What happens at a system call that a thread has no use for: 'on' ends
    /// the daemon, 'log' has the kernel log it, 'off' does without the filters
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    pub seccomp: Level,

    /// What to log to stderr: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LevelFilter,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("'{text}' is not a file mode; write octal digits as in 0660"))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_secs)
        .map_err(|_| format!("'{text}' is not a whole number of seconds"))
}

/// The most that may be looked for: longer than that, a thread is sooner awake.
const MOST_POLLED: Duration = Duration::from_millis(1);

fn parse_micros(text: &str) -> Result<Duration, String> {
    let time = text.parse().map(Duration::from_micros);
    time.ok()
        .filter(|time| *time <= MOST_POLLED)
        .ok_or_else(|| format!("'{text}' is not a number of microseconds from 0 to 1000"))
}

/// The command line's definition, for the man page.
pub fn command() -> clap::Command {
    Options::command()
}

/// Reads the command line.
///
/// # Errors
/// When it asks for help or is not understood.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, Exit> {
    tmem_cli::args::parse(args)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_sound() {
        super::command().debug_assert();
    }
}
