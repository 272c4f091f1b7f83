// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sizes and tables that fit a terminal.

/// A size in at most five characters, rounded down: `0`, `512K`, `1.5G`, `1023M`.
pub(super) fn brief(bytes: u64) -> String {
    let mut value = bytes;
    let mut tenths = 0;
    let mut unit = "";
    for next in ["K", "M", "G", "T", "P", "E"] {
        if value < 1024 {
            break;
        }
        tenths = value % 1024 * 10 / 1024;
        value /= 1024;
        unit = next;
    }
    if unit.is_empty() || tenths == 0 || value >= 100 {
        return format!("{value}{unit}");
    }
    format!("{value}.{tenths}{unit}")
}

/// One that may not be known.
pub(super) fn perhaps(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), brief)
}

/// How much smaller what is held is than what is stored, with one decimal.
pub(super) fn ratio(stored: u64, held: u64) -> String {
    let tenths = u128::from(stored)
        .saturating_mul(10)
        .checked_div(u128::from(held));
    match tenths {
        Some(tenths) if stored > 0 => format!("{}.{}", tenths / 10, tenths % 10),
        _ => "-".into(),
    }
}

/// Rows as lines, the first `text` columns to the left, numbers to the right.
pub(super) fn aligned(rows: &[Vec<String>], text: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut lines = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<_> = cells
            .map(|(column, (cell, &width))| {
                if column < text {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        lines += cells.join("  ").trim_end();
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_brief() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (1536 << 20, "1.5G"),
            (8 << 30, "8G"),
            (99 << 30 | 1 << 29, "99.5G"),
            (100 << 30 | 1 << 29, "100G"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(brief(bytes), text, "{bytes}");
            assert!(brief(bytes).len() <= 5);
        }
        assert_eq!(perhaps(None), "-");
    }

    #[test]
    fn ratios_need_something_on_both_sides() {
        assert_eq!(ratio(0, 0), "-");
        assert_eq!(ratio(0, 4096), "-");
        assert_eq!(ratio(4096, 0), "-");
        assert_eq!(ratio(25, 10), "2.5");
        assert_eq!(ratio(u64::MAX, 1), "18446744073709551615.0");
    }
}
