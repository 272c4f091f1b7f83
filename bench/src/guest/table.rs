// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was measured, as tables in Markdown.

use crate::guest::pieces::Piece;
use crate::guest::session::Way;
use std::fmt::Write;

/// Tables of `pieces`, one for each sort of disk.
pub(crate) fn tables(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for (limited, title) in [
        (true, "A disk of 3,000 operations and 125 MB a second"),
        (false, "A disk without a limit"),
    ] {
        let of_disk: Vec<&Piece> = pieces.iter().filter(|p| p.limited == limited).collect();
        if !of_disk.is_empty() {
            let _ = write!(text, "\n{title}\n\n{}", table(&of_disk));
        }
    }
    text
}

fn table(pieces: &[&Piece]) -> String {
    let mut text = String::from(
        "| work | way | time | | CPU time | guest's reads | disk's reads | from the disk | saved | hit rate \
         | host memory |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut names: Vec<&str> = Vec::new();
    for piece in pieces {
        if !names.contains(&piece.name.as_str()) {
            names.push(&piece.name);
        }
    }
    for name in names {
        let same = pieces.iter().filter(|piece| piece.name == name);
        let alone = same.clone().find(|piece| piece.way == Way::Disk);
        for piece in same {
            let m = &piece.measured;
            let mib = |bytes: u64| format!("{} MiB", (bytes + (1 << 19)) >> 20);
            let percent = |share: f64| format!("{:.0} %", share * 100.0);
            let beside = alone
                .filter(|alone| piece.way != Way::Disk && alone.seconds > 0.0)
                .map_or(String::new(), |alone| {
                    format!("{:.2}x", piece.seconds / alone.seconds)
                });
            let saved = alone
                .filter(|alone| piece.way != Way::Disk && alone.measured.disk_read_bytes > 0)
                .map_or(String::new(), |alone| {
                    let part = m.disk_read_bytes as f64 / alone.measured.disk_read_bytes as f64;
                    percent(1.0 - part)
                });
            let host = match piece.way {
                Way::Disk => String::new(),
                _ => mib(m.host_bytes),
            };
            let _ = writeln!(
                text,
                "| {name} | {} | {:.1} s | {beside} | {:.1} s | {} | {} | {} | {saved} | {} | {host} |",
                piece.way.name(),
                piece.seconds,
                m.cpu_seconds,
                m.guest_reads,
                m.disk_reads,
                mib(m.disk_read_bytes),
                m.hit_rate(piece.way).map_or(String::new(), percent),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::session::Measured;

    #[test]
    fn a_way_is_beside_the_disk_alone() {
        let piece = |way, seconds, disk_read_bytes| Piece {
            name: "files".into(),
            way,
            limited: true,
            seconds,
            measured: Measured {
                disk_read_bytes,
                hits: 3,
                misses: 1,
                host_bytes: 5 << 20,
                ..Measured::default()
            },
        };
        let pieces = [
            piece(Way::Disk, 8.0, 200 << 20),
            piece(Way::Precache, 2.0, 50 << 20),
        ];
        let text = tables(&pieces);
        let row =
            "| files | precache | 2.0 s | 0.25x | 0.0 s | 0 | 0 | 50 MiB | 75 % | 75 % | 5 MiB |";
        assert!(text.contains(row), "{text}");
        assert!(!text.contains("without a limit"), "{text}");
    }
}
