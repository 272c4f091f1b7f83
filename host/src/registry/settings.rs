// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The settings of a virtual machine, and how files and the control API write them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use tmem_cli::size;
use tmem_store::{ClientConfig, Compression};
use uuid::Uuid;
use virtio_tmem::device::{GiveBack, MAX_POOLS, Quota};
use virtio_tmem::wire::PAGE_SIZE;

use super::disk::Disk;
use super::name::Name;
use super::values;

const PAGE: u64 = PAGE_SIZE as u64;

/// Largest number of bytes or seconds that can be said; beyond what any host has, and
/// within what TOML writes.
pub const MOST: u64 = 1 << 62;

/// Fewest pages of a swap disk: mkswap takes no less.
pub(super) const LEAST_SWAP: u64 = 10 * PAGE;

/// No limit of ephemeral pages but the quota.
const UNLIMITED: &str = "none";

/// The swap disk of a virtual machine on credit, if nothing is said. Pages are
/// refused when the credit is used up, not when the disk is full.
const CREDIT_SWAP: u64 = 4 << 30;

/// What is granted to one virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Socket for its front end; `None`: one named after it, in the runtime directory.
    pub socket: Option<PathBuf>,
    /// Most bytes held for it.
    pub quota: Quota,
    /// What its ephemeral pools may hold of that; `None`: all of it.
    pub ephemeral_quota: Option<u64>,
    /// Its part of the memory when that is short.
    pub weight: u32,
    /// How its pages are compressed.
    pub codec: Compression,
    /// Who it is for the next daemon, too; `None`: made from its name.
    pub identity: Option<Uuid>,
    /// The trust domain that it belongs to.
    pub domain: Option<Name>,
    /// Pools that it may have.
    pub max_pools: u32,
    /// How long its pages are kept without a front end.
    pub grace: Duration,
    /// Its device, if that is a plain disk; `None`: transcendent memory.
    pub disk: Option<Disk>,
    /// Bytes of the swap disk that it is granted, if its device is not one.
    pub swap_size: u64,
    /// Which of its memory goes back to the host.
    pub give_back: GiveBack,
    /// Puts of new pages are refused.
    pub frozen: bool,
}

impl Settings {
    /// What its device is.
    pub fn personality(&self) -> &'static str {
        match self.disk {
            Some(_) => Disk::PERSONALITY,
            None => Disk::NOT_ONE,
        }
    }

    /// Pages of the swap disk.
    pub fn swap_pages(&self) -> u64 {
        self.swap_size / PAGE
    }
}

/// What holds for a virtual machine about which nothing is said.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Most bytes held for it.
    pub quota: Quota,
    /// Its swap disk; `None`: by its quota.
    pub swap_size: Option<u64>,
    /// How long its pages are kept without a front end.
    pub grace: Duration,
}

impl Defaults {
    /// Judges them, as what is said of a virtual machine is judged.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn check(&self) -> Result<(), String> {
        let said = Said {
            quota: Some(self.quota.into()),
            swap_size: self.swap_size.map(Amount::Bytes),
            ..Said::default()
        };
        said.over(self).map(drop)
    }
}

/// What is said of a virtual machine, in a file or to the control API. What is left out
/// has a default, or stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Said {
    /// Absolute path of its socket. Only the administrator says it.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Bytes, or text as on the command line.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub quota: Option<Amount>,
    /// Bytes, or text as on the command line; `none`: no limit but the quota.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub ephemeral_quota: Option<Amount>,
    /// A whole number above 0.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// `tmem` or `blk`.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub personality: Option<String>,
    /// Bytes of a disk, or text as on the command line.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub size: Option<Amount>,
    /// Whether a disk has a swap header.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub swapspace: Option<bool>,
    /// The label in that.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What becomes of writes to a disk that the quota has no room for: `error`.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub on_full: Option<String>,
    /// The name of a setting of [`Compression`].
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// A UUID.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// A name; the empty text: none.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// At least 1.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub max_pools: Option<u32>,
    /// Seconds.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub grace: Option<u64>,
    /// Bytes, or text as on the command line.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub swap_size: Option<Amount>,
    /// `certain` or `any`.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub give_back: Option<String>,
    /// Whether puts of new pages are refused.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
}

/// Bytes, or a text that says how many.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// `8G`, `credit:64M`.
    Text(String),
}

/// What is there is not null.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Amount {
    fn quota(&self) -> Result<Quota, String> {
        match self {
            Self::Bytes(bytes) => Ok(Quota::Fixed(*bytes)),
            Self::Text(text) => values::quota(text),
        }
    }

    pub(super) fn bytes(&self) -> Result<u64, String> {
        match self {
            Self::Bytes(bytes) => Ok(*bytes),
            Self::Text(text) => size::parse(text),
        }
    }
}

impl From<Quota> for Amount {
    fn from(quota: Quota) -> Self {
        match quota {
            Quota::Fixed(bytes) => Self::Bytes(bytes),
            Quota::Credit { base } => Self::Text(format!("credit:{base}")),
        }
    }
}

impl Said {
    /// The settings of a new virtual machine.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn over(&self, defaults: &Defaults) -> Result<Settings, String> {
        let quota = self.quota()?.unwrap_or(defaults.quota);
        let twice = match quota {
            Quota::Fixed(bytes) => bytes.saturating_mul(2).clamp(LEAST_SWAP, MOST),
            Quota::Credit { .. } => CREDIT_SWAP,
        };
        let disk = self.disk(twice)?;
        let swap_size = self.swap_size()?.or(defaults.swap_size);
        let base = Settings {
            socket: None,
            quota,
            ephemeral_quota: None,
            weight: ClientConfig::WEIGHT,
            codec: Compression::default(),
            identity: None,
            domain: None,
            max_pools: if disk.is_some() { 1 } else { MAX_POOLS },
            disk,
            grace: defaults.grace.min(Duration::from_secs(MOST)),
            swap_size: swap_size.unwrap_or(twice),
            give_back: GiveBack::default(),
            frozen: false,
        };
        self.changed(&base)
    }

    /// `settings` with what is said.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn changed(&self, settings: &Settings) -> Result<Settings, String> {
        self.goes_with(settings.disk.is_some())?;
        let mut settings = settings.clone();
        if let Some(socket) = &self.socket {
            if !socket.is_absolute() {
                return Err(format!("the socket {socket:?} is not an absolute path"));
            }
            settings.socket = Some(socket.clone());
        }
        if let Some(quota) = self.quota()? {
            settings.quota = quota;
        }
        if let Some(quota) = self.ephemeral_quota()? {
            settings.ephemeral_quota = quota;
        }
        match self.weight {
            Some(0) => return Err("a weight is a whole number above 0".into()),
            Some(weight) => settings.weight = weight,
            None => {}
        }
        if let Some(codec) = &self.codec {
            settings.codec = Compression::parse(codec)?;
        }
        if let Some(identity) = &self.identity {
            let identity = Uuid::try_parse(identity);
            settings.identity = Some(identity.map_err(|_| "an identity is a UUID")?);
        }
        match self.domain.as_deref() {
            Some("") => settings.domain = None,
            Some(domain) => settings.domain = Some(domain.parse()?),
            None => {}
        }
        match self.max_pools {
            Some(pools) if !(1..=MAX_POOLS).contains(&pools) => {
                return Err(format!("a virtual machine has 1 to {MAX_POOLS} pools"));
            }
            Some(pools) => settings.max_pools = pools,
            None => {}
        }
        match self.grace {
            Some(seconds) if seconds > MOST => {
                return Err(format!("a grace period is at most {MOST} seconds"));
            }
            Some(seconds) => settings.grace = Duration::from_secs(seconds),
            None => {}
        }
        if let Some(bytes) = self.swap_size()? {
            settings.swap_size = bytes;
        }
        if let Some(give_back) = &self.give_back {
            settings.give_back = GiveBack::parse(give_back)?;
        }
        if let Some(frozen) = self.frozen {
            settings.frozen = frozen;
        }
        Ok(settings)
    }

    fn quota(&self) -> Result<Option<Quota>, String> {
        let quota = self.quota.as_ref().map(Amount::quota).transpose()?;
        match quota {
            Some(Quota::Fixed(bytes)) if bytes < PAGE => Err(format!(
                "a quota of {bytes} bytes holds no page; give at least {PAGE} bytes, or a size like 512M"
            )),
            Some(Quota::Fixed(bytes) | Quota::Credit { base: bytes }) if bytes > MOST => {
                Err(format!("a quota is at most {MOST} bytes"))
            }
            quota => Ok(quota),
        }
    }

    /// The limit that is said, or that there is none.
    fn ephemeral_quota(&self) -> Result<Option<Option<u64>>, String> {
        let quota = self.ephemeral_quota.as_ref().map(|amount| match amount {
            Amount::Text(text) if text == UNLIMITED => Ok(None),
            amount => amount.bytes().map(Some),
        });
        match quota.transpose()? {
            Some(Some(bytes)) if bytes > MOST => Err(format!(
                "a quota of ephemeral pages is at most {MOST} bytes"
            )),
            quota => Ok(quota),
        }
    }

    fn swap_size(&self) -> Result<Option<u64>, String> {
        let bytes = self.swap_size.as_ref().map(Amount::bytes).transpose()?;
        match bytes {
            Some(bytes) if bytes < LEAST_SWAP => Err(format!(
                "a swap disk of {bytes} bytes is of no use; give at least {LEAST_SWAP} bytes, or a size like 1G"
            )),
            Some(bytes) if bytes > MOST => Err(format!("a swap disk has at most {MOST} bytes")),
            bytes => Ok(bytes),
        }
    }
}

impl From<&Settings> for Said {
    /// All of them, so that they stay what they are whatever the defaults become.
    fn from(settings: &Settings) -> Self {
        let disk = settings.disk.as_ref();
        let own = Self {
            personality: Some(Disk::PERSONALITY.to_owned()),
            size: disk.map(|disk| Amount::Bytes(disk.size)),
            swapspace: disk.map(|disk| disk.swapspace),
            label: disk.map(|disk| disk.label.clone()),
            on_full: disk.map(|_| Disk::ON_FULL.to_owned()),
            ..Self::default()
        };
        let other = Self {
            ephemeral_quota: Some(match settings.ephemeral_quota {
                Some(bytes) => Amount::Bytes(bytes),
                None => Amount::Text(UNLIMITED.into()),
            }),
            max_pools: Some(settings.max_pools),
            swap_size: Some(Amount::Bytes(settings.swap_size)),
            give_back: Some(settings.give_back.name().to_owned()),
            ..Self::default()
        };
        Self {
            socket: settings.socket.clone(),
            quota: Some(settings.quota.into()),
            weight: Some(settings.weight),
            codec: Some(settings.codec.name().to_owned()),
            identity: settings.identity.as_ref().map(ToString::to_string),
            domain: settings.domain.as_ref().map(ToString::to_string),
            grace: Some(settings.grace.as_secs()),
            frozen: Some(settings.frozen),
            ..if disk.is_some() { own } else { other }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn defaults() -> Defaults {
        Defaults {
            quota: Quota::Fixed(1 << 30),
            swap_size: None,
            grace: Duration::from_secs(60),
        }
    }

    fn read(text: &str) -> Result<Settings, String> {
        let said: Said = toml::from_str(text).map_err(|error| error.to_string())?;
        said.over(&defaults())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let settings = read("").unwrap();
        assert_eq!(settings.quota, Quota::Fixed(1 << 30));
        assert_eq!(settings.swap_size, 2 << 30, "twice the quota");
        assert_eq!((settings.weight, settings.max_pools), (100, 64));
        assert_eq!(settings.grace, Duration::from_secs(60));
        assert_eq!((settings.domain, settings.frozen), (None, false));
        let settings = read("quota = 'credit'").unwrap();
        assert_eq!(settings.swap_size, CREDIT_SWAP);
    }

    #[test]
    fn settings_are_the_same_once_they_were_written_and_read() {
        for text in [
            "",
            "quota = '8G'\nweight = 200\ncodec = 'lz4'\ndomain = 'team-a'\nmax_pools = 3\n\
             grace = 0\nephemeral_quota = '1G'\nswap_size = '40M'\ngive_back = 'any'\nfrozen = true\nsocket = '/run/x'",
            "quota = 'credit:3M'\nswap_size = 40960\nephemeral_quota = 0",
            "ephemeral_quota = 'none'",
            "personality = 'tmem'",
            "personality = 'blk'",
            "personality = 'blk'\nsize = '8G'\nquota = '4G'\nswapspace = false\nlabel = 'cold'\non_full = 'error'",
            "quota = 4611686018427387904\ngrace = 4611686018427387904",
        ] {
            let settings = read(text).unwrap();
            let written = toml::to_string(&Said::from(&settings)).unwrap();
            assert_eq!(read(&written).unwrap(), settings, "{written}");
        }
        let longest = Defaults {
            grace: Duration::from_secs(u64::MAX),
            quota: Quota::Fixed(MOST),
            ..defaults()
        };
        let settings = Said::default().over(&longest).unwrap();
        toml::to_string(&Said::from(&settings)).unwrap();
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "quota = 4095",
            "quota = '99999999999T'",
            "quota = 4611686018427387905",
            "quota = -1",
            "quota = 1.0",
            "quota = true",
            "quota = 'debit'",
            "ephemeral_quota = 'credit'",
            "ephemeral_quota = 4611686018427387905",
            "weight = 0",
            "weight = 4294967296",
            "codec = 'gzip'",
            "domain = '../x'",
            "max_pools = 0",
            "max_pools = 65",
            "grace = -1",
            "grace = 4611686018427387905",
            "swap_size = 4096",
            "give_back = 'some'",
            "frozen = 1",
            "socket = 'relative'",
            "unheard = 1",
            "personality = 'net'",
            "personality = ''",
            "personality = 'blk'\nsize = '4K'",
            "personality = 'blk'\nsize = '99999999T'",
            "personality = 'blk'\non_full = 'spill'",
            "personality = 'blk'\non_full = 'drop'",
            "personality = 'blk'\nlabel = '12345678901234567'",
            "personality = 'blk'\nlabel = \"a\\nb\"",
            "personality = 'blk'\nswapspace = 'on'",
            "personality = 'blk'\nfrozen = true",
            "personality = 'blk'\nmax_pools = 1",
            "personality = 'blk'\nswap_size = '1G'",
            "personality = 'blk'\nephemeral_quota = '1G'",
            "personality = 'blk'\ngive_back = 'any'",
            "size = '8G'",
            "swapspace = true",
            "personality = 'tmem'\nlabel = 'cold'",
            "on_full = 'error'",
        ] {
            read(text).unwrap_err();
        }
    }
}
