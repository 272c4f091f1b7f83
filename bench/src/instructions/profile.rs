// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a guest's instructions are: by functions of its kernel.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Counted, Row};

/// Functions that are told of each row.
const MOST: usize = 40;

/// What the plugin calls what it does not tell apart.
const PROGRAMS: u64 = 0;
const REST: u64 = 1;

/// Functions of a kernel, by where they begin.
struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Those of a kernel that says them as `/proc/kallsyms`.
    fn parse(text: &str) -> Self {
        let symbol = |line: &str| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let name = words.nth(1)?;
            let name = format!("{:#}", rustc_demangle::demangle(name));
            Some((address, name))
        };
        let mut symbols: Vec<_> = text.lines().filter_map(symbol).collect();
        symbols.sort();
        Self(symbols)
    }

    /// The function that has an address.
    fn name(&self, address: u64) -> &str {
        match address {
            PROGRAMS => return "(programs)",
            REST => return "(elsewhere)",
            _ => (),
        }
        let after = self.0.partition_point(|(begin, _)| *begin <= address);
        let symbol = after.checked_sub(1).and_then(|at| self.0.get(at));
        symbol.map_or("(unknown)", |(_, name)| name)
    }
}

/// The functions in which most of a row's instructions are, for a page, and how many.
fn functions<'a>(row: &Row, symbols: &'a Symbols) -> Vec<(&'a str, f64)> {
    let mut functions = HashMap::<_, f64>::new();
    for (place, count) in &row.places {
        *functions.entry(symbols.name(*place)).or_default() += count;
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    functions.truncate(MOST);
    functions
}

/// Writes where the instructions of rows are, for a page, to a file.
///
/// `disk` is the guest's first, whose content is not needed any more.
pub(super) fn write(to: &Path, counted: &Counted, disk: &Path, rows: &[Row]) -> Result<()> {
    // Too long for an answer.
    let length = counted.sh(
        "busybox dd if=/proc/kallsyms of=/dev/vda bs=1M conv=fsync 2>/dev/null; \
         busybox wc -c </proc/kallsyms",
    )?;
    let length = length.trim().parse().context("/proc/kallsyms")?;
    let mut text = Vec::new();
    File::open(disk)
        .and_then(|file| file.take(length).read_to_end(&mut text))
        .context("cannot read the guest's symbols")?;
    let symbols = Symbols::parse(&String::from_utf8_lossy(&text));
    let mut said = String::new();
    for row in rows {
        writeln!(
            said,
            "{}: {:.0} instructions for a page",
            row.name,
            row.median()
        )?;
        for (name, count) in functions(row, &symbols) {
            writeln!(said, "{count:>10.1}  {name}")?;
        }
        writeln!(said)?;
    }
    fs::write(to, said).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_by_the_function_that_they_are_in() {
        let symbols = Symbols::parse(
            "ffffffff81000200 T second\nffffffff81000000 t first\n\
             ffffffff81000300 t _RNvCs1234_7mycrate3foo\t[virtio_tmem]\n",
        );
        assert_eq!(symbols.name(0xffff_ffff_8100_01f0), "first");
        assert_eq!(symbols.name(0xffff_ffff_8100_0200), "second");
        assert_eq!(symbols.name(0xffff_ffff_8100_0310), "mycrate::foo");
        assert_eq!(symbols.name(PROGRAMS), "(programs)");
        assert_eq!(symbols.name(0x1000), "(unknown)");
        let row = Row {
            places: [
                (0xffff_ffff_8100_0000, 1.0),
                (0xffff_ffff_8100_01f0, 2.5),
                (0xffff_ffff_8100_0210, 5.0),
            ]
            .into(),
            ..Row::default()
        };
        assert_eq!(functions(&row, &symbols), [("second", 5.0), ("first", 3.5)]);
    }
}
