// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the daemon is to do, judged before anything is started.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tmem_cli::settings::Settings as Given;
use tmem_cli::size;
use tmem_host::group::Group;
use tmem_host::registry::values::{switch, weight};
use tmem_host::registry::{Amount, Defaults, Name, Said, Settings};

use crate::cli::Options;

/// Where a front end connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A socket to be made.
    Path(PathBuf),
    /// An inherited listening socket.
    Fd(i32),
}

/// A virtual machine of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name: in log lines, statistics and the control API.
    pub name: Name,
    /// Where its front end connects.
    pub place: Place,
    /// What it may.
    pub settings: Settings,
}

/// What holds for virtual machines about which nothing is said.
///
/// # Errors
/// A sentence about the first mistake.
pub fn defaults(options: &Options) -> Result<Defaults> {
    let defaults = Defaults {
        quota: options.quota,
        swap_size: options.swap_size,
        grace: options.grace,
    };
    defaults.check().map_err(anyhow::Error::msg)?;
    Ok(defaults)
}

/// The virtual machines that the command line names, in their order.
///
/// # Errors
/// A sentence about the first mistake.
pub fn machines(options: &Options, defaults: &Defaults) -> Result<Vec<Machine>> {
    let mut machines = Vec::new();
    for path in &options.socket_path {
        let place = Place::Path(path.clone());
        machines.push(machine(defaults, None, place, &Said::default())?);
    }
    for text in &options.vm {
        machines.push(own(defaults, text).with_context(|| format!("--vm {text}"))?);
    }
    if let Some(fd) = options.fd {
        ensure!(
            machines.is_empty(),
            "--fd cannot be combined with --socket-path or --vm"
        );
        machines.push(machine(defaults, None, Place::Fd(fd), &Said::default())?);
    }
    let (mut names, mut fds) = (BTreeSet::new(), BTreeSet::new());
    for machine in &machines {
        if let Place::Fd(fd) = machine.place {
            ensure!(fds.insert(fd), "two virtual machines have fd={fd}");
        }
        ensure!(
            names.insert(&machine.name),
            "two virtual machines are named '{}'; give one of them another name with --vm name=…",
            machine.name
        );
    }
    Ok(machines)
}

/// A `--vm` argument.
fn own(defaults: &Defaults, text: &str) -> Result<Machine> {
    let given = Given::parse(text, &KEYS, "quota=2G").map_err(anyhow::Error::msg)?;
    let said = read(&given).map_err(anyhow::Error::msg)?;
    let fd = given.get_as("fd", |text| number(text, "the number of a file descriptor"));
    let place = match (given.get("socket"), fd.map_err(anyhow::Error::msg)?) {
        (Some(path), None) => Place::Path(path.into()),
        (None, Some(fd)) => Place::Fd(fd),
        _ => bail!("either the setting socket=PATH or fd=N is needed"),
    };
    machine(defaults, given.get("name"), place, &said)
}

/// The settings of `--vm`.
const KEYS: [&str; 18] = [
    "name",
    "identity",
    "socket",
    "fd",
    "quota",
    "ephemeral-quota",
    "weight",
    "swap-size",
    "codec",
    "give-back",
    "domain",
    "max-pools",
    "grace",
    "personality",
    "size",
    "swapspace",
    "label",
    "on-full",
];

/// What is said of one virtual machine. Its values are judged with those of files.
fn read(given: &Given<'_>) -> Result<Said, String> {
    let text = |key| given.get(key).map(str::to_owned);
    let amount = |key| given.get(key).map(|text| Amount::Text(text.to_owned()));
    Ok(Said {
        quota: amount("quota"),
        ephemeral_quota: amount("ephemeral-quota"),
        weight: given.get_as("weight", weight)?,
        swap_size: amount("swap-size"),
        codec: text("codec"),
        give_back: text("give-back"),
        identity: text("identity"),
        domain: text("domain"),
        max_pools: given.get_as("max-pools", |text| number(text, "a number of pools"))?,
        grace: given.get_as("grace", |text| number(text, "a whole number of seconds"))?,
        personality: text("personality"),
        size: amount("size"),
        swapspace: given.get_as("swapspace", switch)?,
        label: text("label"),
        on_full: text("on-full"),
        ..Said::default()
    })
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not {what}"))
}

fn machine(defaults: &Defaults, name: Option<&str>, place: Place, said: &Said) -> Result<Machine> {
    let name = match (name, &place) {
        (Some(name), _) => name.to_owned(),
        (None, Place::Path(path)) => stem(path)?,
        (None, Place::Fd(fd)) => format!("fd{fd}"),
    };
    let name = name.parse().map_err(anyhow::Error::msg)?;
    let mut settings = said.over(defaults).map_err(anyhow::Error::msg)?;
    if let Place::Path(path) = &place {
        settings.socket = Some(path.clone());
    }
    Ok(Machine {
        name,
        place,
        settings,
    })
}

fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.with_context(|| {
        format!(
            "the socket path '{}' gives the virtual machine no name; use --vm name=…,socket=…",
            path.display()
        )
    })?;
    Ok(stem.to_owned())
}

/// Directories of the virtual machines that the command line does not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Files of the administrator.
    pub config: Option<PathBuf>,
    /// What the control API made.
    pub state: Option<PathBuf>,
    /// Sockets of both.
    pub run: PathBuf,
}

/// Where files of the administrator are, if nothing is said.
const CONFIG: &str = "/etc/virtio-tmem";

/// Where it is kept what the control API makes, if nothing is said and it is there.
const STATE: &str = "/var/lib/virtio-tmem";

/// Where sockets are made, if nothing is said.
const RUN: &str = "/run/tmem";

impl Places {
    /// As the options say, and `environment` (systemd.exec(5)). A daemon that has virtual machines
    /// on its command line has others only if their directory is named.
    pub fn of(options: &Options, environment: impl Fn(&str) -> Option<String>) -> Self {
        // Several are separated by colons.
        let first = |name| {
            let dirs = environment(name)?;
            let dir = dirs.split(':').next().filter(|dir| !dir.is_empty());
            dir.map(PathBuf::from)
        };
        let is_named =
            !options.socket_path.is_empty() || !options.vm.is_empty() || options.fd.is_some();
        let state = || {
            let state = first("STATE_DIRECTORY");
            state.or_else(|| Some(STATE.into()).filter(|dir: &PathBuf| dir.is_dir()))
        };
        let run = options.run.clone().or_else(|| first("RUNTIME_DIRECTORY"));
        let own = |own: &Option<PathBuf>, other: &dyn Fn() -> Option<PathBuf>| {
            own.clone()
                .or_else(|| if is_named { None } else { other() })
        };
        Self {
            config: own(&options.config, &|| Some(CONFIG.into())),
            state: own(&options.state, &state),
            run: run.unwrap_or_else(|| RUN.into()),
        }
    }
}

/// Most bytes that the store may hold.
///
/// # Errors
/// When more is asked for than the host has.
pub fn memory_limit(options: &Options) -> Result<u64> {
    let host = tmem_host::memory::of_host();
    let group = Group::own().and_then(|group| group.limit());
    let group = group.unwrap_or(host);
    let limit = options.memory_limit.unwrap_or(group.min(host) / 2);
    ensure!(
        limit <= host,
        "a memory limit of {} is more than the host's memory of {}; give a smaller --memory-limit",
        size::show(limit),
        size::show(host)
    );
    if limit > group {
        log::warn!(
            "the control group of the daemon may have {}, and the store {}: puts are refused before the store is full; give a smaller --memory-limit, or the group more",
            size::show(group),
            size::show(limit)
        );
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn places(line: &str, environment: &[(&str, &str)]) -> Places {
        let args = line.split_whitespace().map(OsString::from);
        let options = crate::cli::parse(args).unwrap();
        Places::of(&options, |name| {
            let found = environment.iter().find(|(is, _)| *is == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn directories_are_those_of_the_options_then_of_systemd() {
        let systemd = [
            ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
            ("RUNTIME_DIRECTORY", "/run/a:/run/b"),
        ];
        let there = places("x --control-socket c", &systemd);
        assert_eq!(there.config, Some(CONFIG.into()));
        assert_eq!(there.state, Some("/var/lib/a".into()));
        assert_eq!(there.run, PathBuf::from("/run/a"));
        let said = places("x --config c --state s --run r", &systemd);
        let expected = ["c", "s", "r"].map(PathBuf::from);
        assert_eq!(
            [said.config.unwrap(), said.state.unwrap(), said.run],
            expected
        );
        assert_eq!(places("x", &[]).run, PathBuf::from(RUN));
    }

    #[test]
    fn who_names_machines_has_no_others_unless_asked_for() {
        let systemd = [("STATE_DIRECTORY", "/var/lib/a")];
        for line in ["x --socket-path a.sock", "x --vm socket=a", "x --fd 3"] {
            let there = places(line, &systemd);
            assert_eq!((there.config, there.state), (None, None), "{line}");
        }
        let there = places("x --socket-path a.sock --state s", &systemd);
        assert_eq!((there.config, there.state), (None, Some("s".into())));
    }
}
