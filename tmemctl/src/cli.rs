// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line.

use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::uapi;

/// Attach transcendent memory to a running guest's disks
///
/// For the guest, as root, with the module virtio_tmem loaded. A filter on a
/// mounted file system's disk keeps clean blocks in the host's memory, too
/// (precache); one on an active swap partition swaps to the host first
/// (preswap).
///
/// Example:
///
///   modprobe virtio_tmem
///   tmemctl attach --all
///   tmemctl status
///   tmemctl detach /dev/vda2
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
    /// Attach filters to block devices
    Attach(Attach),
    /// Detach filters, bringing home first what only the host has
    ///
    /// Safe under load. It takes as long as the pages need to be written to the
    /// disk; Ctrl-C ends it, and the filter stays attached.
    Detach(Detach),
    /// Show what is attached, and what it is good for
    Status(Status),
}

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

    /// Attach to everything suitable: the disks of mounted ext2, ext3, ext4,
    /// xfs, btrfs and f2fs, and active swap partitions. Says what is skipped
    #[arg(long, conflicts_with_all = ["devices", "kind"])]
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
}

impl From<Kind> for uapi::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Precache => Self::Precache,
            Kind::Preswap => Self::Preswap,
        }
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("'{text}' is not a whole number of seconds above 0"))
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
