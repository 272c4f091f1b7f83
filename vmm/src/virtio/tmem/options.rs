// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `--tmem`.

use std::path::PathBuf;

use tmem_cli::settings::Settings;
use tmem_cli::size;
use tmem_host::registry::Name;
use tmem_store::Compression;
use virtio_tmem::device::GiveBack;
use virtio_tmem::wire::PAGE_SIZE;

use crate::virtio::personality::Serve;

/// Bytes in a page.
const PAGE: u64 = PAGE_SIZE as u64;

/// What the guest is called, unless said otherwise.
const NAME: &str = "guest";

/// Request queues, unless said otherwise.
const QUEUES: u16 = 2;

/// Most request queues.
const MOST_QUEUES: u16 = 63;

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

/// What `--tmem` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tmem {
    /// A store in this process.
    InProcess(TmemOptions),
    /// A daemon's.
    Daemon {
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

impl Tmem {
    /// Reads the value of `--tmem`.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &KEYS, "quota=4G")?;
        let queues = match settings.get("queues") {
            None => QUEUES,
            Some(text) => text
                .parse()
                .ok()
                .filter(|queues| (1..=MOST_QUEUES).contains(queues))
                .ok_or_else(|| format!("queues={text} is not a number from 1 to {MOST_QUEUES}"))?,
        };
        match (settings.get("socket"), settings.get("quota")) {
            (Some(socket), None) => {
                let own = [
                    "memory-limit",
                    "swap-size",
                    "serve",
                    "codec",
                    "give-back",
                    "name",
                ];
                if own.iter().any(|key| settings.get(key).is_some()) {
                    return Err(
                        "with socket=PATH only queues=N can be given: the daemon has the rest"
                            .into(),
                    );
                }
                if socket.is_empty() {
                    return Err("socket= needs the path of the daemon's socket".into());
                }
                Ok(Self::Daemon {
                    socket: socket.into(),
                    queues,
                })
            }
            (None, Some(quota)) => in_process(&settings, size::parse(quota)?, queues),
            _ => Err("give either quota=SIZE or socket=PATH".into()),
        }
    }
}

fn in_process(settings: &Settings<'_>, quota: u64, queues: u16) -> Result<Tmem, String> {
    if quota < PAGE {
        return Err(format!(
            "a quota of {quota} bytes holds no page; give a size like 512M"
        ));
    }
    let swap_size = settings
        .get_as("swap-size", size::parse)?
        .unwrap_or_else(|| quota.saturating_mul(2));
    if swap_size < LEAST_SWAP * PAGE {
        return Err(format!(
            "a swap disk of {swap_size} bytes is of no use; give a size like 1G"
        ));
    }
    let memory_limit = settings.get_as("memory-limit", size::parse)?;
    if let Some(limit) = memory_limit
        && limit < quota
    {
        return Err(format!(
            "a memory limit of {} is below the quota of {}; raise it or leave it out",
            size::show(limit),
            size::show(quota)
        ));
    }
    let serve = match settings.get("serve") {
        None | Some("vcpu") => Serve::Vcpu,
        Some("thread") => Serve::Thread,
        Some(other) => return Err(format!("serve={other} is neither vcpu nor thread")),
    };
    let codec = settings.get_as("codec", Compression::parse)?;
    let give_back = settings.get_as("give-back", GiveBack::parse)?;
    let name = settings.get("name").unwrap_or(NAME).parse()?;
    Ok(Tmem::InProcess(TmemOptions {
        quota,
        memory_limit,
        swap_size,
        queues,
        serve,
        codec: codec.unwrap_or_default(),
        give_back: give_back.unwrap_or_default(),
        name,
    }))
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
    fn a_daemon_has_its_own_settings() {
        let daemon = Tmem::parse("socket=/run/tmem/web1.sock,queues=4");
        let expected = Tmem::Daemon {
            socket: "/run/tmem/web1.sock".into(),
            queues: 4,
        };
        assert_eq!(daemon, Ok(expected));
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
