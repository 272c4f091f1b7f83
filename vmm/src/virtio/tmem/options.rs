// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `--tmem` and `--tmem-swap`.

use std::path::PathBuf;

use tmem_cli::settings::Settings;
use tmem_cli::size;
use tmem_host::registry::Name;
use tmem_store::Compression;
use virtio_tmem::device::GiveBack;
use virtio_tmem::wire::PAGE_SIZE;

use crate::virtio::personality::Serve;
use crate::virtio::vhost_user::{Kind, MAX_REQUEST_QUEUES};

/// Bytes in a page.
const PAGE: u64 = PAGE_SIZE as u64;

/// What the guest is called, unless said otherwise.
const NAME: &str = "guest";

/// Request queues, unless said otherwise.
const QUEUES: u16 = 2;

/// Least pages of a swap disk: what mkswap(8) asks for.
const LEAST_SWAP: u64 = 10;

/// A store in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmemOptions {
    /// Most bytes held for the guest.
    pub quota: u64,
    /// Most bytes that the store takes: the quota can be raised up to here.
    /// `None`: twice the quota, as far as the host has them.
    pub memory_limit: Option<u64>,
    /// Bytes of the swap disk.
    pub swap_size: u64,
    /// Whether the device is that disk, a plain one, and nothing else.
    pub is_disk: bool,
    /// Request queues.
    pub queues: u16,
    /// Where requests are served.
    pub serve: Serve,
    /// How pages are compressed.
    pub codec: Compression,
    /// Which memory goes back to the host.
    pub give_back: GiveBack,
    /// What the guest is called in the API and in metrics.
    pub name: Name,
}

/// What `--tmem` or `--tmem-swap` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tmem {
    /// A store in this process.
    InProcess(TmemOptions),
    /// A daemon's.
    Daemon {
        /// Which device it serves.
        kind: Kind,
        /// Its socket for this guest.
        socket: PathBuf,
        /// Request queues.
        queues: u16,
    },
}

/// The settings of `--tmem`.
const KEYS: [&str; 9] = [
    "quota",
    "swap-size",
    "memory-limit",
    "queues",
    "serve",
    "codec",
    "give-back",
    "name",
    "socket",
];

/// The settings of `--tmem-swap`, beside a size.
const SWAP_KEYS: [&str; 6] = ["quota", "memory-limit", "queues", "serve", "codec", "name"];

/// The settings of `--tmem-swap` without one.
const DAEMON_KEYS: [&str; 7] = [
    "socket",
    "queues",
    "quota",
    "memory-limit",
    "serve",
    "codec",
    "name",
];

impl Tmem {
    /// Reads the value of `--tmem`.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &KEYS, "quota=4G")?;
        match (settings.get("socket"), settings.get("quota")) {
            (Some(socket), None) => daemon(Kind::Tmem, socket, &settings, &KEYS),
            (None, Some(quota)) => in_process(&settings, size::parse(quota)?),
            _ => Err("give either quota=SIZE or socket=PATH".into()),
        }
    }

    /// Reads the value of `--tmem-swap`: a size, and perhaps settings; or a socket.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn parse_swap(text: &str) -> Result<Self, String> {
        let (first, rest) = match text.split_once(',') {
            Some((first, rest)) => (first, Some(rest)),
            None => (text, None),
        };
        if !first.contains('=') {
            return TmemOptions::parse_swap(first, rest).map(Self::InProcess);
        }
        let settings = Settings::parse(text, &DAEMON_KEYS, "socket=PATH")?;
        match settings.get("socket") {
            Some(socket) => daemon(Kind::Disk, socket, &settings, &DAEMON_KEYS),
            None => Err("begin with a size, as in 8G,quota=4G, or give socket=PATH".into()),
        }
    }
}

/// The device of the daemon at `socket`; nothing else of `keys` but queues may be given.
fn daemon(
    kind: Kind,
    socket: &str,
    settings: &Settings<'_>,
    keys: &[&str],
) -> Result<Tmem, String> {
    let is_ours = |key: &&&str| !["socket", "queues"].contains(*key);
    if keys
        .iter()
        .filter(is_ours)
        .any(|key| settings.get(key).is_some())
    {
        return Err("with socket=PATH only queues=N can be given: the daemon has the rest".into());
    }
    if socket.is_empty() {
        return Err("socket= needs the path of the daemon's socket".into());
    }
    Ok(Tmem::Daemon {
        kind,
        socket: socket.into(),
        queues: queues(settings.get("queues"))?,
    })
}

impl TmemOptions {
    /// A disk of a size, with settings perhaps.
    fn parse_swap(size: &str, settings: Option<&str>) -> Result<Self, String> {
        let swap_size = size::parse(size)?;
        let settings = settings.map(|text| Settings::parse(text, &SWAP_KEYS, "quota=4G"));
        let settings = settings.transpose()?;
        let get = |key| settings.as_ref().and_then(|settings| settings.get(key));
        let queues = queues(get("queues"))?;
        let quota = get("quota").map(size::parse).transpose()?;
        let options = Self {
            quota: quota.unwrap_or(swap_size / 2),
            memory_limit: get("memory-limit").map(size::parse).transpose()?,
            swap_size,
            is_disk: true,
            queues,
            serve: serve(get("serve"))?,
            codec: codec(get("codec"))?,
            give_back: GiveBack::default(),
            name: get("name").unwrap_or(NAME).parse()?,
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), String> {
        let Self { quota, .. } = *self;
        if quota < PAGE {
            return Err(format!(
                "a quota of {quota} bytes holds no page; give a size like 512M"
            ));
        }
        if self.swap_size < LEAST_SWAP * PAGE {
            return Err(format!(
                "a swap disk of {} bytes is of no use; give a size like 1G",
                self.swap_size
            ));
        }
        match self.memory_limit {
            Some(limit) if limit < quota => Err(format!(
                "a memory limit of {} is below the quota of {}; raise it or leave it out",
                size::show(limit),
                size::show(quota)
            )),
            _ => Ok(()),
        }
    }
}

fn queues(text: Option<&str>) -> Result<u16, String> {
    let Some(text) = text else {
        return Ok(QUEUES);
    };
    let queues = text.parse().ok();
    queues
        .filter(|queues| (1..=MAX_REQUEST_QUEUES).contains(queues))
        .ok_or_else(|| format!("queues={text} is not a number from 1 to {MAX_REQUEST_QUEUES}"))
}

fn serve(text: Option<&str>) -> Result<Serve, String> {
    match text {
        None | Some("vcpu") => Ok(Serve::Vcpu),
        Some("thread") => Ok(Serve::Thread),
        Some(other) => Err(format!("serve={other} is neither vcpu nor thread")),
    }
}

fn codec(text: Option<&str>) -> Result<Compression, String> {
    text.map_or(Ok(Compression::default()), Compression::parse)
}

fn in_process(settings: &Settings<'_>, quota: u64) -> Result<Tmem, String> {
    let swap_size = settings
        .get_as("swap-size", size::parse)?
        .unwrap_or_else(|| quota.saturating_mul(2));
    let give_back = settings.get_as("give-back", GiveBack::parse)?;
    let name = settings.get("name").unwrap_or(NAME).parse()?;
    let options = TmemOptions {
        quota,
        memory_limit: settings.get_as("memory-limit", size::parse)?,
        swap_size,
        is_disk: false,
        queues: queues(settings.get("queues"))?,
        serve: serve(settings.get("serve"))?,
        codec: codec(settings.get("codec"))?,
        give_back: give_back.unwrap_or_default(),
        name,
    };
    options.check()?;
    Ok(Tmem::InProcess(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_all_that_is_needed() {
        let Ok(Tmem::InProcess(options)) = Tmem::parse("quota=4G") else {
            panic!("refused");
        };
        assert_eq!(options.quota, 4 << 30);
        assert_eq!(options.swap_size, 8 << 30);
        assert_eq!(options.serve, Serve::Vcpu);
        assert_eq!(options.give_back, GiveBack::Certain);
        assert_eq!(options.codec, Compression::Auto);
        assert_eq!(options.name.as_str(), "guest");
    }

    #[test]
    fn a_codec_can_be_given() {
        for codec in Compression::ALL {
            let text = format!("quota=4G,codec={}", codec.name());
            let Ok(Tmem::InProcess(options)) = Tmem::parse(&text) else {
                panic!("refused");
            };
            assert_eq!(options.codec, codec);
        }
    }

    #[test]
    fn a_plain_disk_has_a_size_and_perhaps_settings() {
        let disk = |text| match Tmem::parse_swap(text) {
            Ok(Tmem::InProcess(options)) => options,
            other => panic!("{text}: {other:?}"),
        };
        let options = disk("8G");
        assert_eq!((options.swap_size, options.quota), (8 << 30, 4 << 30));
        assert!(options.is_disk);
        let options = disk("8G,quota=1G,queues=1,serve=thread");
        assert_eq!((options.quota, options.queues), (1 << 30, 1));
        assert_eq!(options.serve, Serve::Thread);
        for (text, words) in [
            ("", "size"),
            ("quota=1G", "size"),
            ("8G,", "is not a setting"),
            ("8G,swap-size=1G", "no setting 'swap-size'"),
            ("8G,give-back=any", "no setting 'give-back'"),
            ("16K", "of no use"),
            ("8G,quota=0", "holds no page"),
            ("8G,quota=4G,memory-limit=1G", "below the quota"),
            ("8G,queues=64", "1 to 63"),
            ("8G,socket=/s", "no setting 'socket'"),
            ("socket=", "needs the path"),
            ("socket=/s,quota=1G", "only queues=N"),
            ("socket=/s,name=web1", "only queues=N"),
            ("socket=/s,swap-size=1G", "no setting 'swap-size'"),
            ("socket=/s,queues=0", "1 to 63"),
            ("queues=2", "socket=PATH"),
        ] {
            let mistake = Tmem::parse_swap(text).unwrap_err();
            assert!(mistake.contains(words), "{text}: {mistake}");
        }
    }

    #[test]
    fn a_daemon_has_its_own_settings() {
        let of = |kind, queues| Tmem::Daemon {
            kind,
            socket: "/run/tmem/web1.sock".into(),
            queues,
        };
        let text = "socket=/run/tmem/web1.sock,queues=4";
        assert_eq!(Tmem::parse(text), Ok(of(Kind::Tmem, 4)));
        assert_eq!(Tmem::parse_swap(text), Ok(of(Kind::Disk, 4)));
        let text = "queues=1,socket=/run/tmem/web1.sock";
        assert_eq!(Tmem::parse_swap(text), Ok(of(Kind::Disk, 1)));
        let text = "socket=/run/tmem/web1.sock";
        assert_eq!(Tmem::parse_swap(text), Ok(of(Kind::Disk, QUEUES)));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("", "is not a setting"),
            ("4G", "is not a setting"),
            ("size=4G", "no setting 'size'"),
            ("quota=4G,quota=5G", "given twice"),
            ("queues=2", "either quota=SIZE or socket=PATH"),
            ("quota=4G,socket=/s", "either quota=SIZE or socket=PATH"),
            ("quota=0", "holds no page"),
            ("quota=4G,queues=0", "1 to 63"),
            ("quota=4G,serve=fast", "neither vcpu nor thread"),
            ("quota=4G,memory-limit=1G", "below the quota"),
            ("quota=1G,swap-size=4K", "of no use"),
            ("quota=4G,codec=gzip", "auto, lz4, zstd or none"),
            ("socket=/s,codec=lz4", "only queues=N"),
            ("quota=4G,give-back=all", "write certain or any"),
            ("socket=/s,swap-size=1G", "only queues=N"),
            ("socket=/s,give-back=any", "only queues=N"),
            ("socket=/s,name=web1", "only queues=N"),
            ("quota=4G,name=../web1", "is not a name"),
            ("socket=", "needs the path"),
        ] {
            let mistake = Tmem::parse(text).unwrap_err();
            assert!(mistake.contains(words), "{text}: {mistake}");
        }
    }
}
