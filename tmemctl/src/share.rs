// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The names of shares: UUIDs.

use std::fmt;
use std::str::FromStr;

/// A UUID, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareId(pub [u8; 16]);

/// Where the hyphens are.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl FromStr for ShareId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a UUID, as 6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11");
        let is_hyphen = |(at, byte): (usize, u8)| (byte == b'-') == HYPHENS.contains(&at);
        if text.len() != 36 || !text.bytes().enumerate().all(is_hyphen) {
            return Err(wrong());
        }
        let digits = text.replace('-', "");
        let is_digit = |byte: u8| byte.is_ascii_hexdigit();
        if !digits.bytes().all(is_digit) {
            return Err(wrong());
        }
        let number = u128::from_str_radix(&digits, 16).map_err(|_| wrong())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
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
