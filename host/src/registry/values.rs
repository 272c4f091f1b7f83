// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Values that the command line, files and the control API take in the same way.

use tmem_cli::size;
use virtio_tmem::device::Quota;

/// What a virtual machine on credit may have before it has given anything back, if
/// nothing is said: as much as it swaps out until its memory is reported free.
const BASE: u64 = 64 << 20;

/// Reads a quota: a size, `credit`, or `credit:` and a size.
///
/// # Errors
/// A sentence that says what is expected.
pub fn quota(text: &str) -> Result<Quota, String> {
    match text.strip_prefix("credit") {
        Some("") => Ok(Quota::Credit { base: BASE }),
        Some(base) => base
            .strip_prefix(':')
            .ok_or_else(|| format!("'{text}' is not a quota; write a size, or credit:SIZE"))
            .and_then(size::parse)
            .map(|base| Quota::Credit { base }),
        None => size::parse(text).map(Quota::Fixed),
    }
}

/// Reads a weight.
///
/// # Errors
/// A sentence that says what is expected.
pub fn weight(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|weight| *weight > 0)
        .ok_or_else(|| format!("'{text}' is not a weight; write a whole number above 0"))
}

/// Reads a choice between two.
///
/// # Errors
/// A sentence that says what is expected.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("'{text}' is neither on nor off")),
    }
}
