// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line.

mod share;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::share::ShareId;
use crate::uapi;
pub use share::{Share, ShareAction, ShareAdd, ShareSettings};

/// Operate transcendent memory, in the guest and on the host
///
/// Each command is for one side, and says so.
///
/// In the guest, as root, with the module virtio_tmem loaded: a filter on a
/// mounted file system's disk keeps clean blocks in the host's memory, too
/// (precache); one on an active swap partition swaps to the host first
/// (preswap).
///
///   modprobe virtio_tmem
///   tmemctl attach --all
///   tmemctl status
///   tmemctl detach /dev/vda2
///
/// On the host, as root, the daemon's user or a member of its control group:
///
///   tmemctl vm add web1 --quota 8G --weight 200 --domain team-a
///   tmemctl vm list
///   tmemctl share add golden --domain team-a --vms web1,web2
///   tmemctl freeable
///   tmemctl tiers
///   tmemctl top
#[derive(Clone, Debug, Parser)]
#[command(name = "tmemctl", version, verbatim_doc_comment)]
#[command(arg_required_else_help = false)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Guest: attach filters to block devices
    Attach(Attach),
    /// Guest: detach filters, writing back first what only the host has
    ///
    /// Safe under load. It takes as long as the pages need to be written to the
    /// disk; Ctrl-C ends it, and the filter stays attached.
    Detach(Detach),
    /// Guest: show what is attached, and what it is good for
    Status(Status),
    /// Guest: fail if `swapon /dev/tmem0` would be unwise, and say why
    ///
    /// Beside other swap, /dev/tmem0 is to have the lowest priority: what the host
    /// refuses does not go to an area that is used after it, or in turns with it.
    SwapCheck,
    /// Guest: give memory that is not needed back to the host
    ///
    /// Free memory goes back by itself, a short while after it became free. Cold
    /// memory is found by the kernel, and moved out to swap and to the disks'
    /// filters, as fast as a bound on the time that tasks wait for memory allows.
    GiveBack(GiveBack),
    /// Guest: move memory out now, the coldest first
    Reclaim(Reclaim),
    /// Guest: bring swapped out pages of programs back into memory
    ///
    /// So that the host may be away for a while without anybody waiting for it.
    Pull(Pull),
    /// Host: add, list, change and remove virtual machines
    Vm(Box<Vm>),
    /// Host: add, list, change and remove what virtual machines share
    Share(Share),
    /// Host: show what the host has left to give
    Freeable(Freeable),
    /// Host: show what is in memory and what in the spill area
    Tiers(Tiers),
    /// Host: show the virtual machines live
    Top(Top),
}

/// Options of `tmemctl top`.
#[derive(Clone, Debug, Args)]
pub struct Top {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    pub interval: Duration,

    /// Where.
    #[command(flatten)]
    pub control: Control,
}

/// Where the daemon or VMM is.
#[derive(Clone, Debug, Args)]
pub struct Control {
    /// Control socket of vhost-user-tmem, or API socket of tmem-vmm
    #[arg(
        long,
        visible_alias = "control-socket",
        value_name = "PATH",
        global = true,
        default_value = "/run/virtio-tmem/control.sock"
    )]
    pub control: PathBuf,
}

/// Options of `tmemctl vm`.
#[derive(Clone, Debug, Args)]
pub struct Vm {
    /// What to do.
    #[command(subcommand)]
    pub action: VmAction,

    /// Where.
    #[command(flatten)]
    pub control: Control,
}

/// What `tmemctl vm` does.
#[derive(Clone, Debug, Subcommand)]
pub enum VmAction {
    /// Host: serve another virtual machine, and print the socket for its VMM
    Add(VmAdd),
    /// Host: show the virtual machines
    List(VmList),
    /// Host: change settings of a virtual machine; its driver is told
    ///
    /// What is not given stays as it is.
    Set(VmSet),
    /// Host: end the connection of a virtual machine and destroy its pages
    ///
    /// What it has swapped out is lost to it. Bring that back first, with `detach`.
    Remove(VmName),
    /// Host: refuse new pages of a virtual machine
    ///
    /// What it has can be read, replaced and flushed.
    Freeze(VmName),
    /// Host: take new pages of a virtual machine again
    Thaw(VmName),
    /// Host: evict ephemeral pages of a virtual machine, the oldest first
    Flush(VmFlush),
    /// Host: ask a virtual machine to bring its pages back
    ///
    /// Its driver is asked, and the guest's administrator: the host cannot do it alone.
    Detach(VmName),
    /// Host: save the pages of a virtual machine, beside a snapshot of its memory
    ///
    /// Its VMM has paused it, or has ended. If it runs on before all is saved, nothing is.
    Save(VmImage),
    /// Host: give a virtual machine the pages that were saved, and none of those it has
    ///
    /// Restore its memory next: its VMM is to connect within the grace period. A machine whose
    /// memory is not that of the same moment is given none of the pages.
    Restore(VmImage),
    /// Host: give a virtual machine copies of another one's pages, and none of those it has
    ///
    /// The other's VMM has paused it, or has ended. Start the clone's VMM next, with a copy of its
    /// memory, within the grace period.
    Clone(VmClone),
}

/// What is cloned, and the clone.
#[derive(Clone, Debug, Args)]
pub struct VmClone {
    /// Name of the virtual machine that is cloned
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Name of the clone, which is served already
    #[arg(value_name = "CLONE")]
    pub clone: String,

    /// Copy its pages, which takes as long as a restore, instead of sharing them: for virtual machines that
    /// must not learn from the time of a read what the other one has used
    #[arg(long)]
    pub copy: bool,
}

/// A virtual machine and a file.
#[derive(Clone, Debug, Args)]
pub struct VmImage {
    /// Name of the virtual machine
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The file; -: standard output or input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// A virtual machine.
#[derive(Clone, Debug, Args)]
pub struct VmName {
    /// Name of the virtual machine
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Options of `tmemctl vm add`.
#[derive(Clone, Debug, Args)]
pub struct VmAdd {
    /// Name: 1 to 64 letters, digits, '-', '_' and '.'
    #[arg(value_name = "NAME")]
    pub name: String,

    /// What its device is: tmem, transcendent memory, for guests with the module; or
    /// blk, a plain virtio-blk disk for any guest [default: tmem]
    #[arg(long, value_name = "WHAT")]
    pub personality: Option<String>,

    /// Size of a disk as 8G [default: twice the quota]
    #[arg(long, value_name = "SIZE", value_parser = tmem_cli::size::parse)]
    pub size: Option<u64>,

    /// Whether a disk has a swap header already: on or off [default: on]
    #[arg(long, value_name = "ON|OFF", value_parser = on_or_off)]
    pub swapspace: Option<bool>,

    /// Label in that [default: tmem]
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,

    /// What becomes of writes to a disk that its quota has no room for: error
    /// [default: error]
    #[arg(long, value_name = "WHAT")]
    pub on_full: Option<String>,

    /// What it may.
    #[command(flatten)]
    pub settings: Settings,

    /// Pools that it may have [default: 64]
    #[arg(long, value_name = "N")]
    pub max_pools: Option<u32>,

    /// Memory that it may give back: certain (to be had again), or any [default: certain]
    #[arg(long, value_name = "WHICH")]
    pub give_back: Option<String>,
}

/// Options of `tmemctl vm set`.
#[derive(Clone, Debug, Args)]
pub struct VmSet {
    /// Name of the virtual machine
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The daemon says that it is fixed.
    #[arg(long, hide = true)]
    pub personality: Option<String>,

    /// The daemon says that it is fixed.
    #[arg(long, hide = true, value_parser = tmem_cli::size::parse)]
    pub size: Option<u64>,

    /// What it may.
    #[command(flatten)]
    pub settings: Settings,
}

/// Settings of a virtual machine that can be changed.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// Most memory that its pages take on the host: a size as 8G; or credit[:SIZE],
    /// as much as it has given back, and SIZE more [initially: --quota of the daemon]
    #[arg(long, value_name = "QUOTA")]
    pub quota: Option<String>,

    /// What its ephemeral pools (clean blocks of its disks) may take of that: a size
    /// as 2G, or none for all of it. The oldest that are beyond go
    #[arg(long, value_name = "QUOTA")]
    pub ephemeral_quota: Option<String>,

    /// Its part of the memory when that is short, to that of others [initially: 100]
    #[arg(long, value_name = "N")]
    pub weight: Option<u32>,

    /// How its pages are compressed: auto, lz4, zstd or none [initially: auto]
    #[arg(long, value_name = "CODEC")]
    pub codec: Option<String>,

    /// Trust domain that it belongs to; '' for none
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,

    /// Seconds for which its pages are kept without a front end [initially: --grace of the
    /// daemon]
    #[arg(long, value_name = "SECONDS")]
    pub grace: Option<u64>,

    /// Size of its swap disk [initially: twice the quota; on credit 4G]
    #[arg(long, value_name = "SIZE", value_parser = tmem_cli::size::parse)]
    pub swap_size: Option<u64>,
}

/// Options of `tmemctl vm list`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct VmList {
    /// Show all there is to say of each
    #[arg(long)]
    pub long: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "long")]
    pub json: bool,
}

/// Options of `tmemctl vm flush`.
#[derive(Clone, Debug, Args)]
pub struct VmFlush {
    /// Name of the virtual machine
    #[arg(value_name = "NAME")]
    pub name: String,

    /// How much of what the host holds is to come back, as 2G
    #[arg(long, value_name = "SIZE", value_parser = tmem_cli::size::parse)]
    pub bytes: u64,
}

/// Options of `tmemctl freeable`.
#[derive(Clone, Debug, Args)]
pub struct Freeable {
    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Where.
    #[command(flatten)]
    pub control: Control,
}

/// Options of `tmemctl tiers`.
#[derive(Clone, Debug, Args)]
pub struct Tiers {
    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Where.
    #[command(flatten)]
    pub control: Control,
}

/// Options of `tmemctl give-back`.
#[derive(Clone, Debug, Args)]
pub struct GiveBack {
    /// What to do.
    #[command(subcommand)]
    pub action: GiveBackAction,
}

/// What `tmemctl give-back` does.
#[derive(Clone, Debug, Subcommand)]
pub enum GiveBackAction {
    /// Begin, or go on with other settings
    On(GiveBackOn),
    /// End it; what the host has comes back as it is used
    Off,
    /// Show what was given back, and the pressure on what is left
    Status(GiveBackStatus),
}

/// Options of `tmemctl give-back on`.
#[derive(Clone, Debug, Args)]
pub struct GiveBackOn {
    /// Give back only what is free; do not look for cold memory
    #[arg(long)]
    pub free_only: bool,

    /// Seconds without use after which memory is cold; its frames are free after about
    /// three times as long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub cold: u64,

    /// Part of the time that tasks may wait for memory, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0.5", value_parser = parse_percent)]
    pub pressure: Pressure,

    /// Most cold memory that is moved out in a second
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = tmem_cli::size::parse)]
    pub rate: u64,

    /// Most CPU time for moving it out, in percent of one CPU's
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub cpu: u32,

    /// Smallest block of free memory that is given back: 2^ORDER pages [default: as
    /// the kernel's parameter page_reporting_order has it, or 5]
    #[arg(long, value_name = "ORDER", value_parser = clap::value_parser!(u32).range(0..=10))]
    pub order: Option<u32>,

    /// Milliseconds after which memory that became free is given back [default: as
    /// the kernel's parameter page_reporting_delay_ms has it]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=600_000))]
    pub delay: Option<u32>,
}

/// Options of `tmemctl give-back status`.
#[derive(Clone, Debug, Default, Args)]
pub struct GiveBackStatus {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `tmemctl reclaim`.
#[derive(Clone, Debug, Args)]
pub struct Reclaim {
    /// How much, as 512M
    #[arg(value_name = "SIZE", value_parser = tmem_cli::size::parse)]
    pub size: u64,

    /// Only memory of this control group, as /sys/fs/cgroup/system.slice
    #[arg(long, value_name = "DIRECTORY")]
    pub cgroup: Option<PathBuf>,

    /// Wait until what became free was given back to the host, and say how much smaller a
    /// snapshot of the memory is: before the machine is paused. Needs `tmemctl give-back on`
    #[arg(long)]
    pub snapshot: bool,
}

/// Options of `tmemctl pull`.
#[derive(Clone, Debug, Args)]
pub struct Pull {
    /// How much at most, as 512M [default: everything]
    #[arg(value_name = "SIZE", value_parser = tmem_cli::size::parse)]
    pub size: Option<u64>,

    /// Most that is read in a second
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = tmem_cli::size::parse)]
    pub rate: u64,

    /// Memory that stays available: it ends when there is less [default: a tenth of the
    /// machine's]
    #[arg(long, value_name = "SIZE", value_parser = tmem_cli::size::parse)]
    pub keep: Option<u64>,

    /// Do not end: whenever nothing was swapped out for half a minute and there is
    /// room, bring back a twentieth of what is out
    #[arg(long, conflicts_with = "size")]
    pub auto: bool,
}

/// A part of the time, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure(pub u64);

/// Options of `tmemctl attach`.
#[derive(Clone, Debug, Default, Args)]
pub struct Attach {
    /// Block devices, as /dev/vda1
    #[arg(value_name = "DEVICE", required_unless_present = "all")]
    pub devices: Vec<String>,

    /// What the pages are [default: preswap for an active swap partition, else
    /// precache]
    #[arg(long, value_name = "KIND")]
    pub kind: Option<Kind>,

    /// Read from, and put to, the share with this UUID (`tmemctl share list` on the host).
    /// Other machines have it, too: all of these disks must have the same content
    #[arg(long, value_name = "UUID", conflicts_with = "kind")]
    pub shared: Option<ShareId>,

    /// Nobody writes to the disk, though it is not read-only
    #[arg(long, requires = "shared")]
    pub immutable: bool,

    /// The share is a verified one, and dm-verity is on the disk, with this hash device: it names
    /// blocks by their hashes, and checks what comes. SHA-256, hash type 1 and blocks of 4096 bytes only
    #[arg(long, value_name = "HASHDEVICE", requires = "shared")]
    pub verity: Option<String>,

    /// Byte at which the superblock is on the hash device
    #[arg(long, value_name = "BYTES", requires = "verity", default_value_t = 0)]
    pub hash_offset: u64,

    /// Attach to everything suitable: the disks of mounted ext2, ext3, ext4,
    /// xfs, btrfs and f2fs, and active swap partitions. Says what is skipped
    #[arg(long, conflicts_with_all = ["devices", "kind", "shared"])]
    pub all: bool,
}

/// Options of `tmemctl detach`.
#[derive(Clone, Debug, Default, Args)]
pub struct Detach {
    /// Block devices; one that is gone by its number, as 254:1
    #[arg(value_name = "DEVICE", required_unless_present = "all")]
    pub devices: Vec<String>,

    /// Detach everything
    #[arg(long, conflicts_with = "devices")]
    pub all: bool,
}

/// Options of `tmemctl status`.
#[derive(Clone, Debug, Default, Args)]
pub struct Status {
    /// Show this block device only
    #[arg(value_name = "DEVICE")]
    pub device: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Show it again every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub watch: Option<Duration>,
}

/// What the pages of a filter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Clean blocks of a file system: the disk has all of them, too
    Precache,
    /// Swapped out pages: the host has the only copy
    Preswap,
    /// As precache, but the host gets a page when the guest's kernel evicts it, and
    /// gives it away when it is read again: no page is held twice
    Victim,
}

impl From<Kind> for uapi::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Precache => Self::Precache,
            Kind::Preswap => Self::Preswap,
            Kind::Victim => Self::Victim,
        }
    }
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("'{text}' is neither on nor off")),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("'{text}' is not a whole number of seconds above 0"))
}

/// Reads a percentage with up to four decimals.
fn parse_percent(text: &str) -> Result<Pressure, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{decimals:0<4}");
    let parsed = whole.parse::<u64>().ok().zip(digits.parse::<u64>().ok());
    parsed
        .filter(|_| digits.len() == 4)
        .map(|(whole, decimals)| whole.saturating_mul(10_000).saturating_add(decimals))
        .filter(|millionths| (1..=1_000_000).contains(millionths))
        .map(Pressure)
        .ok_or_else(|| format!("'{text}' is not a percentage above 0, as 0.5"))
}

/// The command line's definition, for the man page.
pub fn command() -> clap::Command {
    Options::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Options::try_parse_from(line.split(' ')).map(|options| options.command)
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn devices_or_all_are_needed_and_exclude_each_other() {
        for action in ["attach", "detach"] {
            assert!(parse(&format!("tmemctl {action}")).is_err());
            assert!(parse(&format!("tmemctl {action} /dev/vda1 --all")).is_err());
            assert!(parse(&format!("tmemctl {action} /dev/vda1 /dev/vda2")).is_ok());
            assert!(parse(&format!("tmemctl {action} --all")).is_ok());
        }
        assert!(parse("tmemctl attach --all --kind preswap").is_err());
    }

    #[test]
    fn a_share_is_for_devices_that_are_named() {
        let share = "--shared 6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11";
        for right in [
            "",
            " --immutable",
            " --verity /dev/vdc",
            " --verity /dev/vdb --hash-offset 25165824",
        ] {
            let line = format!("tmemctl attach {share}{right} /dev/vdb");
            let Command::Attach(attach) = parse(&line).unwrap() else {
                panic!("not attach");
            };
            assert!(attach.shared.is_some());
            assert_eq!(attach.immutable, right == " --immutable");
            assert_eq!(attach.verity.is_some(), right.contains("verity"));
        }
        for wrong in [
            format!("{share} --all"),
            format!("{share} --kind precache /dev/vdb"),
            "--immutable /dev/vdb".into(),
            "--verity /dev/vdc /dev/vdb".into(),
            format!("{share} --hash-offset 4096 /dev/vdb"),
            "--shared golden /dev/vdb".into(),
        ] {
            assert!(parse(&format!("tmemctl attach {wrong}")).is_err());
        }
    }

    #[test]
    fn percentages_are_exact() {
        for (text, millionths) in [
            ("0.5", 5000),
            ("1", 10_000),
            ("0.0001%", 1),
            ("100", 1_000_000),
        ] {
            assert_eq!(parse_percent(text), Ok(Pressure(millionths)), "{text}");
        }
        for text in ["", "0", "-1", "101", "0.00001", "a", "1.x", ".%"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn giving_back_has_defaults_and_bounds() {
        let Command::GiveBack(GiveBack {
            action: GiveBackAction::On(on),
        }) = parse("tmemctl give-back on").unwrap()
        else {
            panic!("not on");
        };
        assert_eq!(
            (
                on.free_only,
                on.cold,
                on.pressure,
                on.rate,
                on.cpu,
                on.order,
                on.delay
            ),
            (false, 30, Pressure(5000), 64 << 20, 10, None, None)
        );
        for wrong in [
            "--order 11",
            "--delay 0",
            "--cold 0",
            "--pressure 0",
            "--rate x",
            "--cpu 0",
            "--cpu 101",
        ] {
            assert!(parse(&format!("tmemctl give-back on {wrong}")).is_err());
        }
        assert!(parse("tmemctl give-back").is_err());
        assert!(parse("tmemctl reclaim").is_err());
        assert!(parse("tmemctl reclaim 512M").is_ok());
    }

    #[test]
    fn a_status_takes_at_most_one_device() {
        let Command::Status(status) = parse("tmemctl status /dev/vda1 --json --watch 5").unwrap()
        else {
            panic!("not a status");
        };
        assert_eq!(status.device.as_deref(), Some("/dev/vda1"));
        assert!(status.json);
        assert_eq!(status.watch, Some(Duration::from_secs(5)));
        assert!(parse("tmemctl status a b").is_err());
        assert!(parse("tmemctl status --watch 0").is_err());
    }
}
