// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where memory is.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The machine's memory, as ranges of physical addresses.
///
/// # Errors
/// When the kernel does not tell, because the caller is not root.
pub(super) fn ranges(proc: &Path) -> Result<Vec<Range<u64>>> {
    let file = proc.join("iomem");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let ranges = parse(&text);
    ensure!(
        !ranges.is_empty(),
        "{} shows no memory: run tmemctl as root",
        file.display()
    );
    Ok(ranges)
}

/// Of lines as `00100000-1ffdffff : System RAM`; those that are indented are parts
/// of others. Who is not root is shown zeros.
fn parse(text: &str) -> Vec<Range<u64>> {
    text.lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.strip_suffix(" : System RAM"))
        .filter_map(|range| {
            let (first, last) = range.split_once('-')?;
            let first = u64::from_str_radix(first, 16).ok()?;
            let last = u64::from_str_radix(last, 16).ok()?;
            (first < last).then_some(first..last.checked_add(1)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOMEM: &str = "00000000-00000fff : Reserved\n\
        00001000-0009fbff : System RAM\n\
        000f0000-000fffff : Reserved\n\
        00100000-1ffdffff : System RAM\n\
        \x20\x2001000000-01ffffff : Kernel code\n\
        100000000-11fffffff : System RAM\n";

    #[test]
    fn memory_is_what_the_kernel_calls_so() {
        let ranges = parse(IOMEM);
        assert_eq!(
            ranges,
            [
                0x1000..0x9fc00,
                0x10_0000..0x1ffe_0000,
                0x1_0000_0000..0x1_2000_0000
            ]
        );
    }

    #[test]
    fn zeros_are_no_memory() {
        assert!(parse("00000000-00000000 : System RAM\n").is_empty());
        assert!(parse("x-y : System RAM\n00000000 : System RAM\n").is_empty());
    }
}
