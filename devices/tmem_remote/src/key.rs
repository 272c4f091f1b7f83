// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Keys in the cluster.

use std::fmt::Write;
use tmem_store::SegmentKey;

/// The keys of a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    namespace: String,
}

impl Keys {
    pub(crate) fn new(namespace: String) -> Self {
        Self { namespace }
    }

    /// Where the host is named that the namespace belongs to.
    pub(crate) fn owner(&self) -> String {
        format!("tmem:{}:owner", self.namespace)
    }

    /// What the keys of an area begin with.
    pub(crate) fn area(&self, identity: u64) -> String {
        format!("tmem:{}:{identity:016x}:", self.namespace)
    }

    /// What all keys of the namespace begin with.
    pub(crate) fn first(&self) -> String {
        format!("tmem:{}:", self.namespace)
    }

    /// The pattern of the keys of all areas. A namespace has none of the characters that mean something
    /// in patterns.
    pub(crate) fn all(&self) -> String {
        format!("tmem:{}:*", self.namespace)
    }

    /// The key of a segment.
    pub(crate) fn segment(&self, identity: u64, segment: SegmentKey) -> String {
        let mut key = self.area(identity);
        for byte in segment.client.bytes() {
            // Writing to a string does not fail.
            let _ = write!(key, "{byte:02x}");
        }
        let _ = write!(key, ":{}", segment.sequence);
        key
    }

    /// An identity for an area of this namespace, made of a random number.
    pub(crate) fn identity(&self, random: u32) -> u64 {
        u64::from(crc32fast::hash(self.namespace.as_bytes())) << 32 | u64::from(random)
    }

    /// Whether an area with this identity is of this namespace.
    pub(crate) fn is_ours(&self, identity: u64) -> bool {
        identity >> 32 == self.identity(0) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tmem_store::Identity;

    #[test]
    fn a_key_names_namespace_area_client_and_segment() {
        let keys = Keys::new("host1".into());
        let identity = keys.identity(7);
        let mut client = [0; 16];
        client[0] = 0xab;
        let segment = SegmentKey {
            slot: 3,
            client: Identity::new(client),
            sequence: 99,
        };
        let key = keys.segment(identity, segment);
        let crc = identity >> 32;
        let client = "ab000000000000000000000000000000";
        assert_eq!(key, format!("tmem:host1:{crc:08x}00000007:{client}:99"));
        assert!(key.starts_with(&keys.area(identity)));
        assert!(keys.is_ours(identity));
        assert!(!Keys::new("host2".into()).is_ours(identity));
    }
}
