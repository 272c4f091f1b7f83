// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Active swap areas: /proc/swaps.

use super::unescape;
use crate::disk::Number;

/// An active swap area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Swap {
    /// Its file.
    pub(super) path: String,
    /// What it is.
    pub(super) place: Place,
    /// Its size.
    pub(super) bytes: u64,
    /// Those with the highest are used first, those with the same in turns.
    pub(super) priority: i32,
}

/// What a swap area is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A whole block device; its number, if its file is still there.
    Device(Option<Number>),
    /// A file in a file system.
    File,
}

/// Reads the text of /proc/swaps; `device` knows the numbers of block devices.
pub(super) fn parse(text: &str, device: impl Fn(&str) -> Option<Number>) -> Vec<Swap> {
    let mut swaps = Vec::new();
    // The first line has the names of the columns.
    for line in text.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let (Some(path), Some(kind)) = (fields.next(), fields.next()) else {
            continue;
        };
        let kib: u64 = fields.next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        // Behind what is used of it.
        let priority = fields.nth(1).and_then(|number| number.parse().ok());
        let path = unescape(path);
        let place = match kind {
            "partition" => Place::Device(device(&path)),
            _ => Place::File,
        };
        swaps.push(Swap {
            path,
            place,
            bytes: kib.saturating_mul(1024),
            // The lowest there is.
            priority: priority.unwrap_or(-1),
        });
    }
    swaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_told_from_files() {
        let text = "\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/vda2                               partition\t1048572\t\t0\t\t-2
/swap\\040file                           file\t\t524284\t\t0\t\t-3
/dev/vdz\\040(deleted)                   partition\t1048572\t\t12\t\t100
";
        let number = "254:2".parse().unwrap();
        let swap = |path: &str, place, kib: u64, priority| Swap {
            path: path.into(),
            place,
            bytes: kib << 10,
            priority,
        };
        assert_eq!(
            parse(text, |path| (path == "/dev/vda2").then_some(number)),
            [
                swap("/dev/vda2", Place::Device(Some(number)), 1_048_572, -2),
                swap("/swap file", Place::File, 524_284, -3),
                swap("/dev/vdz (deleted)", Place::Device(None), 1_048_572, 100),
            ]
        );
    }

    #[test]
    fn without_swap_there_is_nothing() {
        assert_eq!(parse("", |_| None), []);
        assert_eq!(
            parse("Filename\tType\tSize\tUsed\tPriority\n", |_| None),
            []
        );
        assert_eq!(parse("Filename\n\nlonely\n", |_| None), []);
    }
}
