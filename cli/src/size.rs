// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sizes as people write them: 512M, 4G.

/// Reads a size in bytes: digits, then optionally K, M, G or T (powers of
/// 1024), as in `512M`; `MiB` and the like are understood as well.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse(text: &str) -> Result<u64, String> {
    let expected = || format!("'{text}' is not a size; write bytes, or a number with K, M, G or T");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("'{text}' is more than 2^64 bytes"))
}

/// A size for people, exact or with one decimal.
pub fn show(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut rest = 0;
    let mut unit = "bytes";
    for next in units {
        if value < 1024 {
            break;
        }
        rest = value % 1024;
        value /= 1024;
        unit = next;
    }
    if rest == 0 {
        format!("{value} {unit}")
    } else {
        format!("{value}.{} {unit}", rest * 10 / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse("4g"), Ok(4 << 30));
        assert_eq!(parse("1TiB"), Ok(1 << 40));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "-1", "1.5G", "12X", "99999999999T", "0x10"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(show(0), "0 bytes");
        assert_eq!(show(1 << 30), "1 GiB");
        assert_eq!(show(1536 << 20), "1.5 GiB");
    }
}
