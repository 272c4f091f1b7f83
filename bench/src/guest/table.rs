// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was measured, as tables in Markdown.

use crate::guest::limit::Limit;
use crate::guest::pieces::Piece;
use crate::guest::session::Way;
use crate::samples::median;
use std::fmt::Write;

/// What each column says.
const HEAD: &str = "\
| work | way | time | beside | CPU time | disk's time | disk reads | saved | from the disk | hit rate | host memory |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
";

/// What kind of disk it is.
pub(crate) fn disk(limit: Option<Limit>) -> String {
    match limit {
        Some(limit) => format!(
            "a disk of {} operations and {} MB a second",
            limit.operations,
            limit.bytes / 1_000_000
        ),
        None => "a disk without a limit".into(),
    }
}

/// Tables of `pieces`, one for each sort of disk. What has one name and one way
/// is one row: its medians.
pub(crate) fn tables(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for limit in different(pieces, |piece| piece.limit) {
        let of_disk: Vec<&Piece> = pieces.iter().filter(|p| p.limit == limit).collect();
        let _ = write!(text, "\n{}\n\n{}", disk(limit), table(&of_disk));
    }
    text
}

fn table(pieces: &[&Piece]) -> String {
    let mut text = String::from(HEAD);
    for name in different(pieces, |piece| piece.name) {
        let alone = Row::of(pieces, name, Way::Disk);
        for way in Way::ALL {
            if let Some(row) = Row::of(pieces, name, way) {
                row.write(&mut text, name, way, alone.as_ref());
            }
        }
    }
    text
}

/// Medians of what was done one or more times.
struct Row {
    seconds: f64,
    cpu_seconds: f64,
    /// If the disk has a limit.
    least_seconds: Option<f64>,
    disk_reads: f64,
    disk_read_bytes: f64,
    hit_rate: Option<f64>,
    host_bytes: f64,
}

impl Row {
    fn of(pieces: &[&Piece], name: &str, way: Way) -> Option<Self> {
        let metric = |of: &dyn Fn(&Piece) -> Option<f64>| {
            let same = pieces.iter().filter(|p| p.name == name && p.way == way);
            median(same.filter_map(|piece| of(piece)))
        };
        let least = |piece: &Piece| {
            let m = &piece.did.measured;
            let operations = m.disk_reads + m.disk_writes;
            let bytes = m.disk_read_bytes + m.disk_written_bytes;
            Some(piece.limit?.least_seconds(operations, bytes))
        };
        Some(Self {
            seconds: metric(&|p| Some(p.did.seconds))?,
            cpu_seconds: metric(&|p| Some(p.did.measured.cpu_seconds))?,
            least_seconds: metric(&least),
            disk_reads: metric(&|p| Some(p.did.measured.disk_reads as f64))?,
            disk_read_bytes: metric(&|p| Some(p.did.measured.disk_read_bytes as f64))?,
            hit_rate: metric(&|p| p.did.measured.hit_rate(way)),
            host_bytes: metric(&|p| Some(p.did.measured.host_bytes as f64))?,
        })
    }

    /// Writes it, beside that of the disk `alone`.
    fn write(&self, text: &mut String, name: &str, way: Way, alone: Option<&Self>) {
        let seconds = |value: f64| format!("{value:.1} s");
        let mib = |bytes: f64| format!("{:.0} MiB", bytes / f64::from(1 << 20));
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let beside = |of: &dyn Fn(&Self) -> f64| {
            let alone = of(alone.filter(|_| way != Way::Disk)?);
            (alone > 0.0).then(|| of(self) / alone)
        };
        let none = String::new;
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {:.0} | {} | {} | {} | {} |",
            way.name(),
            seconds(self.seconds),
            beside(&|row| row.seconds).map_or_else(none, |ratio| format!("{ratio:.2}x")),
            seconds(self.cpu_seconds),
            self.least_seconds.map_or_else(none, seconds),
            self.disk_reads,
            beside(&|row| row.disk_reads).map_or_else(none, |part| percent(1.0 - part)),
            mib(self.disk_read_bytes),
            self.hit_rate.map_or_else(none, percent),
            match way {
                Way::Disk => none(),
                _ => mib(self.host_bytes),
            },
        );
    }
}

/// The different values of something, in the order in which they first come.
fn different<T, V: PartialEq>(all: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    let mut found = Vec::new();
    for one in all.iter().map(value) {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::pieces::Did;
    use crate::guest::session::Measured;

    fn piece(way: Way, seconds: f64, disk_reads: u64) -> Piece {
        Piece {
            name: "files",
            way,
            limit: Some(Limit::CLOUD),
            did: Did {
                seconds,
                measured: Measured {
                    disk_reads,
                    disk_read_bytes: disk_reads << 12,
                    hits: 3,
                    misses: 1,
                    host_bytes: 5 << 20,
                    cpu_seconds: 1.5,
                    ..Measured::default()
                },
            },
        }
    }

    #[test]
    fn a_way_is_beside_the_disk_alone() {
        let pieces = [
            piece(Way::Disk, 8.0, 51_200),
            piece(Way::Precache, 2.0, 12_800),
        ];
        let text = tables(&pieces);
        let row = "| files | precache | 2.0 s | 0.25x | 1.5 s | 4.3 s | 12800 | 75 % | 50 MiB \
                   | 75 % | 5 MiB |";
        assert!(text.contains(row), "{text}");
        let row = "| files | disk alone | 8.0 s |  | 1.5 s | 17.1 s | 51200 |  | 200 MiB |  |  |";
        assert!(text.contains(row), "{text}");
        assert!(!text.contains("without a limit"), "{text}");
    }

    #[test]
    fn what_was_done_again_is_one_row_of_medians() {
        let pieces = [4.0, 9.0, 5.0].map(|seconds| piece(Way::Disk, seconds, 7));
        let text = tables(&pieces);
        assert_eq!(text.matches("| files |").count(), 1);
        assert!(text.contains("| files | disk alone | 5.0 s |"), "{text}");
    }
}
