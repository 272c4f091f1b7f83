// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The settings of a share, and how files and the control API write them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tmem_store::{Identity, Store};
use uuid::Uuid;

use super::super::name::Name;
use super::super::settings::{Amount, MOST};
use super::verity::{VeritySaid, VeritySettings};

/// What a share may hold if nothing is said.
const QUOTA: u64 = 1 << 30;

/// Who may have a share, and what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSettings {
    /// How drivers name it.
    pub uuid: Uuid,
    /// For whom it is.
    pub trust: Trust,
    /// The virtual machines that may have it.
    pub vms: BTreeSet<Name>,
    /// Most bytes held for it.
    pub quota: u64,
}

/// What the virtual machines of a share have to be trusted with, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They trust each other: all belong to this domain.
    Domain(Name),
    /// Nobody has to trust them: the host takes nothing but blocks with the hash that they are asked
    /// for by, of this image.
    Verified(VeritySettings),
}

impl Trust {
    /// Whether a machine of this domain, or of none, may be given the share.
    pub(super) fn is_for(&self, domain: Option<&Name>) -> bool {
        match self {
            Self::Domain(own) => domain == Some(own),
            Self::Verified(_) => true,
        }
    }
}

/// What is said of a share, in a file or to the control API. What is left out has a default, or stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShareSaid {
    /// A UUID. It stays what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// A name. It stays what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// In the place of a domain: the image that it is for. It stays what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<VeritySaid>,
    /// Names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vms: Option<Vec<String>>,
    /// Bytes, or text as on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Amount>,
}

impl ShareSaid {
    /// The settings of a new share.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub(super) fn settings(&self) -> Result<ShareSettings, String> {
        let uuid = match &self.uuid {
            Some(uuid) => Uuid::try_parse(uuid).map_err(|_| "a share is named by a UUID")?,
            None => random()?,
        };
        let trust = match (&self.domain, &self.verified) {
            (Some(domain), None) => Trust::Domain(domain.parse()?),
            (None, Some(image)) => Trust::Verified(image.settings()?),
            (Some(_), Some(_)) => {
                return Err("a verified share is for virtual machines of any domain".into());
            }
            (None, None) => {
                return Err(
                    "say for which trust domain the share is, or for which image as a verified share: others share nothing"
                        .into(),
                );
            }
        };
        let base = ShareSettings {
            uuid,
            trust,
            vms: BTreeSet::new(),
            quota: QUOTA,
        };
        let said = Self {
            vms: self.vms.clone(),
            quota: self.quota.clone(),
            ..Self::default()
        };
        said.changed(&base)
    }

    /// `settings` with what is said.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub(super) fn changed(&self, settings: &ShareSettings) -> Result<ShareSettings, String> {
        for (is_said, what) in [
            (self.uuid.is_some(), "uuid"),
            (self.domain.is_some(), "domain"),
            (self.verified.is_some(), "image"),
        ] {
            if is_said {
                return Err(format!(
                    "the {what} of a share stays what it is; remove the share and add it anew"
                ));
            }
        }
        let mut settings = settings.clone();
        if let Some(vms) = &self.vms {
            settings.vms = vms
                .iter()
                .map(|name| name.parse())
                .collect::<Result<_, _>>()?;
        }
        match self.quota.as_ref().map(Amount::bytes).transpose()? {
            Some(bytes) if !(Store::LEAST_MEMORY..=MOST).contains(&bytes) => {
                return Err(format!(
                    "the quota of a share is {} to {MOST} bytes, or a size like 2G",
                    Store::LEAST_MEMORY
                ));
            }
            Some(bytes) => settings.quota = bytes,
            None => {}
        }
        Ok(settings)
    }
}

impl From<&ShareSettings> for ShareSaid {
    fn from(settings: &ShareSettings) -> Self {
        let (domain, verified) = match &settings.trust {
            Trust::Domain(domain) => (Some(domain.to_string()), None),
            Trust::Verified(image) => (None, Some(image.into())),
        };
        Self {
            uuid: Some(settings.uuid.to_string()),
            domain,
            verified,
            vms: Some(settings.vms.iter().map(ToString::to_string).collect()),
            quota: Some(Amount::Bytes(settings.quota)),
        }
    }
}

/// A UUID that nobody else has.
fn random() -> Result<Uuid, String> {
    let random = Identity::random();
    let random = random.map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(uuid::Builder::from_random_bytes(random.bytes()).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ShareSettings, String> {
        let said: ShareSaid = toml::from_str(text).map_err(|error| error.to_string())?;
        said.settings()
    }

    const IMAGE: &str = "
vms = ['web1', 'db1']
[verified]
salt = '00Ff'
root_hash = 'ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7'";

    #[test]
    fn settings_are_the_same_once_they_were_written_and_read() {
        for text in [
            "domain = 'team-a'",
            "domain = 'team-a'\nvms = ['web1', 'web2']\nquota = '2G'\nuuid = '6b1fbd2c-6ff4-4f0b-8f7a-3c1f0f6a2b11'",
            IMAGE,
        ] {
            let settings = read(text).unwrap();
            let written = toml::to_string(&ShareSaid::from(&settings)).unwrap();
            assert_eq!(read(&written).unwrap(), settings, "{written}");
        }
        let one = read("domain = 'team-a'").unwrap();
        assert_eq!((one.quota, one.vms.len()), (1 << 30, 0), "nobody has it");
        assert_ne!(one.uuid, read("domain = 'team-a'").unwrap().uuid);
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "",
            "domain = ''",
            "domain = '../x'",
            "domain = 'a'\nvms = ['']",
            "domain = 'a'\nvms = 'web1'",
            "domain = 'a'\nvms = ['a/b']",
            "domain = 'a'\nquota = 4096",
            "domain = 'a'\nquota = 4611686018427387905",
            "domain = 'a'\nquota = 'credit'",
            "domain = 'a'\nuuid = 'golden'",
            "domain = 'a'\nunheard = 1",
            &format!("domain = 'a'\n{IMAGE}"),
            &IMAGE.replace("00Ff", "00f"),
            &IMAGE.replace("00Ff", "00fg"),
            &IMAGE.replace("00Ff", "+0ff"),
            &IMAGE.replace("00Ff", &"00".repeat(257)),
            &IMAGE.replace("root_hash", "root"),
            &IMAGE.replace("a7'", "'"),
            &IMAGE.replace("a7'", "a7a7'"),
            "verified = {}",
            "verified = true",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let settings = read("domain = 'a'").unwrap();
        for text in [
            "domain = 'b'",
            "uuid = '6b1fbd2c-6ff4-4f0b-8f7a-3c1f0f6a2b11'",
            IMAGE,
        ] {
            let said: ShareSaid = toml::from_str(text).unwrap();
            said.changed(&settings).unwrap_err();
        }
    }
}
