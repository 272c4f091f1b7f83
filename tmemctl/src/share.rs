// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The names of shares: UUIDs.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// A UUID, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareId(pub [u8; 16]);

impl FromStr for ShareId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("'{text}' is not a UUID, as 6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11");
        let read: Hyphenated = text.parse().map_err(wrong)?;
        Ok(Self(read.into_uuid().into_bytes()))
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_as_it_is_written_and_nothing_else_is() {
        let text = "6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11";
        let share: ShareId = text.parse().unwrap();
        assert_eq!(share.0[..5], [0x6b, 0x1f, 0x0c, 0x1e, 0x37]);
        assert_eq!(share.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(share));
        for wrong in [
            "",
            "golden",
            "6b1f0c1e37d54a529c7e0d8b2f5a4e11",
            "6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e1",
            "6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e1g",
            "+b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11",
            "6b1f0c1e037d5-4a52-9c7e-0d8b2f5a4e11",
        ] {
            let error = wrong.parse::<ShareId>().unwrap_err();
            assert!(error.contains("is not a UUID"), "{error}");
        }
    }
}
