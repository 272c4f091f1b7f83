// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where pages are, for people.

use serde::Deserialize;

use super::table::{aligned, brief};

/// What the daemon answers.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tiers {
    memory: Memory,
    spill: Option<Spill>,
    remote: Option<Spill>,
    shared: Option<Pages>,
    vms: Vec<Vm>,
}

#[derive(Clone, Debug, Deserialize)]
struct Memory {
    limit_bytes: u64,
    held_bytes: u64,
    pages: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Spill {
    path: String,
    size_bytes: u64,
    held_bytes: u64,
    pages: u64,
    reads: u64,
    read_microseconds: u64,
    read_errors: u64,
    writes: u64,
    write_microseconds: u64,
    write_errors: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Pages {
    memory_bytes: u64,
    memory_pages: u64,
    spill_bytes: u64,
    spill_pages: u64,
    spill_reads: u64,
    spill_read_microseconds: u64,
    promoted_pages: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Vm {
    name: String,
    #[serde(flatten)]
    own: Pages,
    lost_pages: u64,
}

/// A line for each tier, one for each virtual machine, and one for what these share.
pub(super) fn shown(tiers: Tiers) -> String {
    let Tiers {
        memory,
        spill,
        remote,
        shared,
        vms,
    } = tiers;
    let heading = [
        "TIER", "WHERE", "SIZE", "HELD", "PAGES", "READS", "READ", "WRITES", "WRITE", "ERRORS",
    ];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    let mut in_memory = vec![
        "memory".to_owned(),
        "-".to_owned(),
        brief(memory.limit_bytes),
        brief(memory.held_bytes),
        memory.pages.to_string(),
    ];
    in_memory.resize(rows.first().map_or(0, Vec::len), "-".to_owned());
    rows.push(in_memory);
    let areas = [("spill", &spill), ("remote", &remote)];
    let areas = areas.map(|(tier, area)| area.as_ref().map(|area| row(tier, area)));
    rows.extend(areas.into_iter().flatten());
    let mut text = aligned(&rows, 2);
    if spill.is_none() && remote.is_none() {
        text += "There is no spill area; `vhost-user-tmem --spill PATH` has one, and --remote URL remote memory.\n";
    }
    if vms.is_empty() {
        return text;
    }
    let heading = [
        "NAME", "MEMORY", "PAGES", "SPILL", "PAGES", "READS", "READ", "PROMOTED", "LOST",
    ];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    rows.extend(
        vms.iter()
            .map(|vm| vm.own.row(&vm.name, vm.lost_pages.to_string())),
    );
    // No virtual machine has such a name.
    rows.extend(shared.map(|shared| shared.row("(shared)", "-".to_owned())));
    text.push('\n');
    text + &aligned(&rows, 1)
}

impl Pages {
    fn row(&self, name: &str, lost: String) -> Vec<String> {
        vec![
            name.to_owned(),
            brief(self.memory_bytes),
            self.memory_pages.to_string(),
            brief(self.spill_bytes),
            self.spill_pages.to_string(),
            self.spill_reads.to_string(),
            mean(self.spill_read_microseconds, self.spill_reads),
            self.promoted_pages.to_string(),
            lost,
        ]
    }
}

fn row(tier: &str, area: &Spill) -> Vec<String> {
    vec![
        tier.to_owned(),
        area.path.clone(),
        brief(area.size_bytes),
        brief(area.held_bytes),
        area.pages.to_string(),
        area.reads.to_string(),
        mean(area.read_microseconds, area.reads),
        area.writes.to_string(),
        mean(area.write_microseconds, area.writes),
        (area.read_errors.saturating_add(area.write_errors)).to_string(),
    ]
}

/// What one of them took on average, in microseconds.
fn mean(micros: u64, count: u64) -> String {
    let mean = micros.checked_div(count);
    mean.map_or_else(|| "-".into(), |micros| format!("{micros} us"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_tier_and_each_machine_has_a_line() {
        let tiers = json!({
            "memory": { "limit_bytes": 1 << 30, "held_bytes": 512 << 20, "pages": 1000 },
            "spill": {
                "path": "/dev/nvme0n1p4", "size_bytes": 64_u64 << 30, "held_bytes": 2_u64 << 30,
                "free_bytes": 62_u64 << 30, "pages": 2000, "reads": 10, "read_microseconds": 905,
                "read_errors": 1, "writes": 0, "write_microseconds": 0, "write_errors": 2,
            },
            "shared": {
                "memory_bytes": 128 << 20, "memory_pages": 500, "spill_bytes": 1 << 30,
                "spill_pages": 900, "spill_reads": 2, "spill_read_microseconds": 240,
                "promoted_pages": 1,
            },
            "vms": [{
                "name": "web1", "memory_bytes": 512 << 20, "memory_pages": 1000,
                "spill_bytes": 2_u64 << 30, "spill_pages": 2000, "spill_reads": 10,
                "spill_read_microseconds": 899, "promoted_pages": 3, "lost_pages": 1,
            }],
        });
        let text = shown(serde_json::from_value(tiers).unwrap());
        let expected = "\
TIER    WHERE           SIZE  HELD  PAGES  READS   READ  WRITES  WRITE  ERRORS
memory  -                 1G  512M   1000      -      -       -      -       -
spill   /dev/nvme0n1p4   64G    2G   2000     10  90 us       0      -       3

NAME      MEMORY  PAGES  SPILL  PAGES  READS    READ  PROMOTED  LOST
web1        512M   1000     2G   2000     10   89 us         3     1
(shared)    128M    500     1G    900      2  120 us         1     -
";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_a_spill_area_it_says_how_there_is_one() {
        let tiers = json!({
            "memory": { "limit_bytes": 1 << 30, "held_bytes": 0, "pages": 0 },
            "spill": null,
            "vms": [],
        });
        let text = shown(serde_json::from_value(tiers).unwrap());
        assert!(text.contains("--spill PATH"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }
}
