// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Hardware addresses.

use std::fmt;
use std::str::FromStr;

/// The address of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

/// Of the first byte: an address of a group.
const GROUP: u8 = 1;
/// Of the first byte: given by whoever set the interface up, not its maker.
const LOCAL: u8 = 2;

impl MacAddress {
    /// A random address, locally administered.
    ///
    /// # Errors
    /// When the host has no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 6];
        getrandom::fill(&mut bytes)?;
        let [first, ..] = &mut bytes;
        *first = *first & !GROUP | LOCAL;
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            let digits = part.filter(|part| part.bytes().all(|digit| digit.is_ascii_hexdigit()));
            *byte = digits
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| expected(text))?;
        }
        if parts.next().is_some() {
            return Err(expected(text));
        }
        let [first, ..] = bytes;
        if first & GROUP != 0 {
            return Err(format!(
                "{text} is the address of a group; the first byte must be even"
            ));
        }
        if bytes == [0; 6] {
            return Err(format!("{text} is no address of an interface"));
        }
        Ok(Self(bytes))
    }
}

fn expected(text: &str) -> String {
    format!("'{text}' is not a MAC address; write six bytes as in 52:54:00:12:34:56")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_alike() {
        let address: MacAddress = "52:54:00:Ab:cD:09".parse().unwrap();
        assert_eq!(address.0, [0x52, 0x54, 0, 0xab, 0xcd, 9]);
        assert_eq!(address.to_string(), "52:54:00:ab:cd:09");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, told) in [
            ("", "six bytes"),
            ("52:54:00:12:34", "six bytes"),
            ("52:54:00:12:34:56:78", "six bytes"),
            ("52-54-00-12-34-56", "six bytes"),
            ("52:54:00:12:34:5", "six bytes"),
            ("52:54:00:12:34:+5", "six bytes"),
            ("52:54:00:12:34:5g", "six bytes"),
            ("53:54:00:12:34:56", "must be even"),
            ("ff:ff:ff:ff:ff:ff", "must be even"),
            ("00:00:00:00:00:00", "no address"),
        ] {
            let error = MacAddress::from_str(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn random_addresses_are_local_and_differ() {
        let some: Vec<_> = (0..20).map(|_| MacAddress::random().unwrap()).collect();
        for address in &some {
            assert_eq!(address.0[0] & 3, 2, "{address}");
        }
        assert_ne!(some[0], some[1]);
    }
}
