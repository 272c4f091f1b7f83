// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The image that a verified share is for, as dm-verity knows it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use virtio_tmem::wire::PageHash;

/// Longest salt in bytes, which is that of dm-verity's superblock.
const LONGEST_SALT: usize = 256;

/// An image whose blocks a verified share is for: SHA-256, hash type 1, blocks of 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VeritySettings {
    /// Is hashed before each block.
    pub salt: Vec<u8>,
    /// The root of the tree of its hashes. Names the image; nothing is checked with it.
    pub root_hash: [u8; PageHash::SIZE],
}

/// What is said of it: hexadecimal digits, as `veritysetup` shows them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VeritySaid {
    /// Empty: there is none.
    pub salt: String,
    /// 32 bytes.
    pub root_hash: String,
}

impl VeritySaid {
    /// # Errors
    /// A sentence about the first mistake.
    pub(super) fn settings(&self) -> Result<VeritySettings, String> {
        let salt = bytes(&self.salt).filter(|salt| salt.len() <= LONGEST_SALT);
        let salt = salt.ok_or_else(|| {
            format!("the salt of an image is hexadecimal, of {LONGEST_SALT} bytes at most")
        })?;
        let root_hash = bytes(&self.root_hash).and_then(|bytes| bytes.try_into().ok());
        let root_hash =
            root_hash.ok_or("the root hash of an image is a SHA-256: 64 hexadecimal digits")?;
        Ok(VeritySettings { salt, root_hash })
    }
}

impl From<&VeritySettings> for VeritySaid {
    fn from(settings: &VeritySettings) -> Self {
        Self {
            salt: hex(&settings.salt),
            root_hash: hex(&settings.root_hash),
        }
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pairs = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    rest.is_empty().then(|| pairs.collect()).flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
