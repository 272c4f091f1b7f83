// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Names of virtual machines, of domains and of shares.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// A name that can be a part of a path, of a URL and of a log line as it is: 1 to 64
/// ASCII letters, digits, '-', '_' and '.', of which the first is a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Most bytes of a name.
    pub const MOST: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = text.len() <= Self::MOST
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(plain);
        if is_name {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} is not a name; use 1 to 64 letters, digits, '-', '_' and '.', and begin with a letter or digit"
        ))
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless_in_paths_and_logs() {
        let longest = "x".repeat(64);
        for text in ["a", "web1", "7", "a.b_c-d", "A..", &longest] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        let long = "x".repeat(65);
        for text in [
            "", ".", "..", ".hidden", "-rf", "_", "a/b", "../a", "a\0", "a\n", "a b", "ä", "a%2fb",
            "a\\b", "a:b", &long,
        ] {
            let refused = text.parse::<Name>().unwrap_err();
            assert!(!refused.contains('\n'), "{refused}");
        }
    }
}
