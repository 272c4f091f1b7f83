// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What `--net` says.

use std::str::FromStr;

use tmem_cli::settings::Settings;

use super::MacAddress;

/// Longest name of an interface, in bytes.
const MAX_NAME: usize = 15;

/// A network interface as the command line describes it:
/// `tap=NAME[,mac=ADDRESS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOptions {
    /// Name of an existing tap.
    pub tap: String,
    /// Address that the guest's interface gets; `None`: a random one.
    pub mac: Option<MacAddress>,
}

impl FromStr for NetOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let settings = Settings::parse(text, &["tap", "mac"], "tap=NAME or mac=ADDRESS")?;
        let tap = settings.get_as("tap", name_of_tap)?;
        Ok(Self {
            tap: tap.ok_or("the name of the tap is missing; write tap=NAME")?,
            mac: settings.get_as("mac", str::parse)?,
        })
    }
}

/// A name that an interface can have.
fn name_of_tap(name: &str) -> Result<String, String> {
    let strange = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c == '\0';
    if name.is_empty() || name.len() > MAX_NAME || name.contains(strange) {
        return Err(format!(
            "'{name}' is no name of a tap: 1 to {MAX_NAME} bytes, without '/', ':', '%' and spaces"
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tap_is_named_and_the_address_may_be() {
        let options: NetOptions = "tap=tap0".parse().unwrap();
        assert_eq!((options.tap.as_str(), options.mac), ("tap0", None));
        for text in [
            "tap=vm-1.x,mac=52:54:00:12:34:56",
            "mac=52:54:00:12:34:56,tap=vm-1.x",
        ] {
            let options: NetOptions = text.parse().unwrap();
            assert_eq!(options.tap, "vm-1.x");
            assert_eq!(options.mac.unwrap().to_string(), "52:54:00:12:34:56");
        }
    }

    #[test]
    fn mistakes_are_told_in_a_sentence() {
        for (text, told) in [
            ("", "not a setting like tap=NAME"),
            ("tap0", "'tap0' is not a setting like tap=NAME"),
            ("tap=", "'' is no name of a tap"),
            ("tap=a b", "no name of a tap"),
            ("tap=../tap0", "no name of a tap"),
            ("tap=vm%d", "no name of a tap"),
            ("tap=sixteen-letters-", "1 to 15 bytes"),
            ("mac=52:54:00:12:34:56", "tap is missing"),
            ("tap=tap0,mac=x", "'x' is not a MAC address"),
            ("tap=tap0,tap=tap1", "'tap' is given twice"),
            ("tap=tap0,", "'' is not a setting"),
            (
                "tap=tap0,mtu=9000",
                "no setting 'mtu'; tap and mac are known",
            ),
        ] {
            let error = NetOptions::from_str(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
