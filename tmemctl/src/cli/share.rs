// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Options of `tmemctl share`.

use clap::{Args, Subcommand};

use super::Control;

/// Options of `tmemctl share`.
#[derive(Clone, Debug, Args)]
pub struct Share {
    /// What to do.
    #[command(subcommand)]
    pub action: ShareAction,

    /// Where.
    #[command(flatten)]
    pub control: Control,
}

/// What `tmemctl share` does.
#[derive(Clone, Debug, Subcommand)]
pub enum ShareAction {
    /// Host: let virtual machines share the blocks of a disk image, and print the share's UUID
    ///
    /// Only those that are named have it, and only as long as they belong to its domain. They trust
    /// each other: what one puts there, the others take for what is on their disk.
    ///
    /// A share for an image with dm-verity is for machines that do not: with --verified, the host takes
    /// nothing but blocks that have the hash by which guests ask for them. `veritysetup dump` shows
    /// an image's salt, `veritysetup format` its root hash. It has to have SHA-256, hash type 1 and blocks of 4096
    /// bytes. Guests can still tell which blocks of the image others have read.
    Add(ShareAdd),
    /// Host: show the shares
    List(ShareList),
    /// Host: change who has a share, at once, or what it may hold
    ///
    /// What is not given stays as it is.
    Set(ShareSet),
    /// Host: take a share from all that have it, and destroy its pages
    Remove(ShareName),
}

/// Options of `tmemctl share add`.
#[derive(Clone, Debug, Args)]
pub struct ShareAdd {
    /// Name: 1 to 64 letters, digits, '-', '_' and '.'
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Trust domain that all its virtual machines belong to
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "verified",
        conflicts_with = "verified"
    )]
    pub domain: Option<String>,

    /// For virtual machines of any domain: the host checks each block by its hash
    #[arg(long, requires = "salt", requires = "root_hash")]
    pub verified: bool,

    /// Salt of the image, in hexadecimal digits; '-' for none
    #[arg(
        long,
        value_name = "HEX",
        requires = "verified",
        conflicts_with = "domain"
    )]
    pub salt: Option<String>,

    /// Root hash of the image, which names it
    #[arg(
        long,
        value_name = "HEX",
        requires = "verified",
        conflicts_with = "domain"
    )]
    pub root_hash: Option<String>,

    /// How guests name it [default: a new one]
    #[arg(long, value_name = "UUID")]
    pub uuid: Option<String>,

    /// What it may.
    #[command(flatten)]
    pub settings: ShareSettings,
}

/// Options of `tmemctl share set`.
#[derive(Clone, Debug, Args)]
pub struct ShareSet {
    /// Name of the share
    #[arg(value_name = "NAME")]
    pub name: String,

    /// What it may.
    #[command(flatten)]
    pub settings: ShareSettings,
}

/// Settings of a share that can be changed.
#[derive(Clone, Debug, Default, Args)]
pub struct ShareSettings {
    /// Virtual machines that have it, separated by commas; '' for none [initially: none]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub vms: Option<Vec<String>>,

    /// Most memory that its pages take on the host, as 2G. The oldest that are beyond go
    /// [initially: 1G]
    #[arg(long, value_name = "SIZE", value_parser = tmem_cli::size::parse)]
    pub quota: Option<u64>,
}

/// Options of `tmemctl share list`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ShareList {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A share.
#[derive(Clone, Debug, Args)]
pub struct ShareName {
    /// Name of the share
    #[arg(value_name = "NAME")]
    pub name: String,
}
