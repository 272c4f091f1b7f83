// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was measured, as tables in Markdown.

use crate::aging::row::Row;
use std::fmt::Write;

/// Where there is nothing to say.
const NOTHING: &str = "–";

/// A table for each pattern.
pub(super) fn tables(rows: &[Row]) -> String {
    let mut text = String::new();
    for of_pattern in rows.chunk_by(|one, other| one.title() == other.title()) {
        if let Some(first) = of_pattern.first() {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "{}:\n\n\
                 | after | live pages | store | zram | zram compacted | beside zram | \
                 beside compacted | moved | background CPU |\n\
                 |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
                first.title()
            );
        }
        for row in of_pattern {
            let _ = writeln!(text, "{}", line(row));
        }
        text.push('\n');
    }
    text
}

fn line(row: &Row) -> String {
    let zram = row.zram;
    let moved = row
        .moved_bytes
        .map(|bytes| bytes as f64 / f64::from(1 << 20));
    let cpu = row.background_cpu_seconds.map(|seconds| seconds * 1e3);
    format!(
        "| {} | {} | {:.0} | {} | {} | {} | {} | {} | {} |",
        row.after,
        row.live_pages,
        row.store,
        or_nothing(zram, |zram| format!("{:.0}", zram.before_compaction)),
        or_nothing(zram, |zram| format!("{:.0}", zram.after_compaction)),
        or_nothing(row.beside_zram, |ratio| format!("{ratio:.2}x")),
        or_nothing(row.beside_zram_compacted, |ratio| format!("{ratio:.2}x")),
        or_nothing(moved, |mib| format!("{mib:.1} MiB")),
        or_nothing(cpu, |ms| format!("{ms:.0} ms")),
    )
}

fn or_nothing<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NOTHING.into(), text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::aging::pattern::Codecs;
    use crate::aging::pattern::Pattern;
    use crate::aging::row::Measured;
    use crate::aging::row::Peer;
    use crate::aging::state::State;
    use std::time::Duration;

    fn row(clients: usize, zram: Option<Peer>, moved: Option<u64>) -> Row {
        let before = State {
            pages: 0,
            held_bytes: 0,
            mapped_bytes: 0,
            deferred_pages: 0,
            moved_bytes: moved.map(|_| 1 << 20),
            background_cpu: Some(Duration::from_millis(10)),
        };
        let after = State {
            pages: 100,
            held_bytes: 206_000,
            moved_bytes: moved.map(|bytes| bytes + (1 << 20)),
            background_cpu: Some(Duration::from_millis(25)),
            ..before
        };
        let measured = Measured {
            before,
            after,
            settle: Duration::from_secs(1),
            put_bytes: 0,
        };
        let pattern = Pattern {
            name: "files",
            pools: &[],
            clients,
            cold_target: None,
        };
        Row::new(1, (&pattern, Codecs::Lz4), "fill", &measured, zram)
    }

    pub(in crate::aging) fn rows() -> Vec<Row> {
        let zram = Peer {
            before_compaction: 4120.0,
            after_compaction: 2000.0,
        };
        vec![
            row(1, Some(zram), Some(3 << 20)),
            row(1, Some(zram), None),
            row(8, None, None),
        ]
    }

    #[test]
    fn each_pattern_has_a_table_and_each_step_a_line() {
        let text = tables(&rows());
        assert_eq!(text.matches("| after |").count(), 2);
        let lines = [
            "files, one client:\n\n",
            "files, 8 clients:\n\n",
            "| fill | 100 | 2060 | 4120 | 2000 | 0.50x | 1.03x | 3.0 MiB | 15 ms |\n",
            "| fill | 100 | 2060 | 4120 | 2000 | 0.50x | 1.03x | – | 15 ms |\n",
            "| fill | 100 | 2060 | – | – | – | – | – | 15 ms |\n",
        ];
        for line in lines {
            assert!(text.contains(line), "{text}");
        }
    }
}
