// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Paths of the control API.

/// The path of what is called `name` among `all`. A name has nothing in it that means something there; what
/// is not a name is refused by the daemon, and must not become another path.
pub(super) fn path(all: &str, name: &str, action: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '~' })
        .collect();
    format!("/v1/{all}/{name}{action}")
}
