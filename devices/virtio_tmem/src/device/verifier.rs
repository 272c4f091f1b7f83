// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Checks what is put into a verified share (spec section 6.10).

use sha2::{Digest, Sha256};
use tmem_store::Page;
use tmem_wire::PageHash;

/// Hashes pages as dm-verity hashes the blocks of an image: SHA-256, the salt first (hash type 1).
#[derive(Clone, Debug)]
pub struct Verifier {
    /// Has taken the salt.
    salted: Sha256,
}

impl Verifier {
    /// For the image with this salt, which may be empty.
    pub fn new(salt: &[u8]) -> Self {
        Self {
            salted: Sha256::new_with_prefix(salt),
        }
    }

    /// The hash of a page, which is its handle.
    pub fn hash(&self, page: &Page) -> PageHash {
        PageHash(self.salted.clone().chain_update(page).finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tmem_store::PAGE_SIZE;

    fn hex(hash: PageHash) -> String {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The root hashes that `veritysetup format --hash sha256 --data-block-size 4096
    /// --hash-block-size 4096` prints for an image of one block: it is the hash of that.
    #[test]
    fn hashes_are_those_of_dm_verity() {
        let zeros = [0; PAGE_SIZE];
        let counting: Page = std::array::from_fn(|at| u8::try_from(at % 251).unwrap());
        let salt: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        for (salt, page, wanted) in [
            (
                &[][..],
                &zeros,
                "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7",
            ),
            (
                &salt,
                &zeros,
                "4ce3ecf32c133bf6321901b6092219474b6ac91a19d0304621d629e6bb9987dc",
            ),
            (
                &salt,
                &counting,
                "f9629ec228b5c00268d95f3299754de3ec27dd878f059ded6c9b3955d01775ee",
            ),
            (
                &salt[..5],
                &counting,
                "b360b225330398bf6d05ed91166abd5cf63a107b433e5231f4bb063aa8a77667",
            ),
        ] {
            assert_eq!(hex(Verifier::new(salt).hash(page)), wanted);
        }
    }
}
