// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pressure on the host's memory (PSI): when tasks wait for memory, of the host or in the
//! program's control group, ephemeral pages go first. The kernel would reclaim other programs'
//! page cache meanwhile, and swap what they use.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tmem_cli::size;

use crate::group::Group;
use crate::metrics::freeable;
use crate::registry::Registry;

/// In percent of the time: when tasks wait longer, memory is short.
const SHORT: u64 = 10;

/// The part of its ephemeral pages that each virtual machine and each share gives up at a time.
const PART: u64 = 8;

/// Most bytes that all give up at a time: it takes a fraction of a second.
const MOST: u64 = 256 << 20;

/// Between two lines in the log, at least.
const QUIET: Duration = Duration::from_secs(10);

/// Looks how long tasks wait for memory.
#[derive(Debug)]
pub struct Pressure {
    sources: Vec<Source>,
    line: Option<Instant>,
}

impl Pressure {
    /// That of the host, and of the control group of this process.
    pub fn of_host() -> Self {
        let group = Group::own().map(|group| group.dir().join("memory.pressure"));
        Self::of([Some("/proc/pressure/memory".into()), group])
    }

    fn of(paths: [Option<PathBuf>; 2]) -> Self {
        let files = paths
            .into_iter()
            .flatten()
            .filter_map(|it| File::open(it).ok());
        let sources = files.map(|file| Source { file, last: None });
        Self {
            sources: sources.collect(),
            line: None,
        }
    }

    /// Has ephemeral pages evicted if memory is short. To be called every so often, by a thread
    /// that serves nobody. Returns how many went.
    pub fn look(&mut self, registry: &Registry) -> u64 {
        self.look_at(registry, Instant::now())
    }

    fn look_at(&mut self, registry: &Registry, now: Instant) -> u64 {
        let shares = self.sources.iter_mut().filter_map(|it| it.share(now));
        let share = shares.max().unwrap_or(0);
        if share < SHORT {
            return 0;
        }
        let mut left = MOST;
        let mut pages: u64 = 0;
        for entry in registry.list() {
            let client = entry.machine().device().client();
            let bytes = (freeable(&client.stats()) / PART).min(left);
            left -= bytes;
            pages = pages.saturating_add(client.evict(bytes));
        }
        for share in registry.all_shares() {
            let bytes = (freeable(&share.stats()) / PART).min(left);
            left -= bytes;
            pages = pages.saturating_add(share.evict(bytes));
        }
        if pages > 0 && self.line.is_none_or(|line| now - line >= QUIET) {
            self.line = Some(now);
            log::warn!(
                "tasks wait {share} % of the time for the host's memory: ephemeral pages are given back, {} now",
                size::show(MOST - left)
            );
        }
        pages
    }
}

/// A file of the kernel's that adds up waiting (Documentation/accounting/psi.rst).
#[derive(Debug)]
struct Source {
    /// Stays open: a confined thread opens nothing.
    file: File,
    /// When it was read last, and what it said.
    last: Option<(Instant, u64)>,
}

impl Source {
    /// The share of the time since the last call for which some task waited, in percent;
    /// `None` if that cannot be known.
    fn share(&mut self, now: Instant) -> Option<u64> {
        let mut bytes = [0; 512];
        let len = self.file.read_at(&mut bytes, 0).ok()?;
        let total = total(std::str::from_utf8(bytes.get(..len)?).ok()?)?;
        let (then, before) = self.last.replace((now, total))?;
        let time = u64::try_from(now.saturating_duration_since(then).as_micros()).ok()?;
        let waited = total.saturating_sub(before);
        waited.saturating_mul(100).checked_div(time)
    }
}

/// Microseconds for which some task waited.
fn total(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split(' ').find_map(|part| part.strip_prefix("total="));
    total?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use std::sync::Arc;

    use crate::registry::{Said, ShareSaid, Shares};
    use crate::testing::FakeDoor;
    use tmem_store::{PAGE_SIZE, Pool, PoolConfig, PoolKind};

    fn text(total: u64) -> String {
        format!(
            "some avg10=0.22 avg60=0.17 avg300=1.11 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
        )
    }

    #[test]
    fn the_kernels_sum_is_read() {
        assert_eq!(total(&text(58_761_459)), Some(58_761_459));
        for nonsense in ["", "some", "full total=1", "some total=x", "some avg10=1"] {
            assert_eq!(total(nonsense), None, "{nonsense}");
        }
    }

    /// Puts pages that are kept raw, for no two words of them are the same.
    fn fill(pool: &Pool, pages: u64) {
        for index in 0..pages {
            let mut page = [0; PAGE_SIZE];
            let bytes = u64::wrapping_mul(index + 1, 0x9E37_79B9_7F4A_7C15);
            for (nth, word) in (1..).zip(page.chunks_mut(8)) {
                let mixed = bytes.wrapping_mul(nth).rotate_left(29) ^ bytes;
                word.copy_from_slice(&mixed.wrapping_mul(nth | 1).to_le_bytes());
            }
            let put = pool.put(&[3; 24], index, &page);
            assert_eq!(put.result, Ok(()));
        }
    }

    /// Pages go of a share, too, which is no machine's.
    #[test]
    fn under_pressure_pages_of_shares_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory");
        let door = FakeDoor::default();
        let shares = Arc::new(Shares::new(door.store.clone(), None));
        let defaults = crate::registry::Defaults {
            quota: virtio_tmem::device::Quota::Fixed(32 << 20),
            swap_size: None,
            grace: Duration::ZERO,
        };
        let registry = Registry::new(Box::new(door), defaults, None).with_shares(shares.clone());
        let web1 = Said {
            domain: Some("team-a".into()),
            ..Said::default()
        };
        registry.add("web1", &web1).unwrap();
        let said = ShareSaid {
            domain: Some("team-a".into()),
            vms: Some(vec!["web1".into()]),
            ..ShareSaid::default()
        };
        let golden = shares.add("golden", &said).unwrap();
        let web1 = shares.of(&"web1".parse().unwrap());
        let shared = web1.pool(golden.settings().uuid.as_bytes()).unwrap();
        fill(&shared.pool, 2000);
        fs::write(&file, text(0)).unwrap();
        let mut pressure = Pressure::of([Some(file.clone()), None]);
        let start = Instant::now();
        pressure.look_at(&registry, start);
        fs::write(&file, text(500_000)).unwrap();
        let gone = pressure.look_at(&registry, start + Duration::from_secs(1));
        assert!(gone > 100 && gone < 600, "{gone}");
        assert_eq!(golden.stats().ephemeral_pages, 2000 - gone);
    }

    #[test]
    fn under_pressure_ephemeral_pages_go_a_part_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory");
        let door = FakeDoor::default();
        let defaults = crate::registry::Defaults {
            quota: virtio_tmem::device::Quota::Fixed(32 << 20),
            swap_size: None,
            grace: Duration::ZERO,
        };
        let registry = Registry::new(Box::new(door), defaults, None);
        let entry = registry.add("web1", &Said::default()).unwrap();
        let client = entry.machine().device().client();
        for (id, kind) in [(0, PoolKind::Persistent), (1, PoolKind::Ephemeral)] {
            client.create_pool(id, PoolConfig::new(kind)).unwrap();
            let pool = client.pool(id).unwrap();
            fill(&pool, 2000);
        }
        fs::write(&file, text(0)).unwrap();
        let mut pressure = Pressure::of([Some(file.clone()), Some(dir.path().join("none"))]);
        let start = Instant::now();
        let mut look = |second: u64, total: u64| {
            fs::write(&file, text(total)).unwrap();
            pressure.look_at(&registry, start + Duration::from_secs(second))
        };
        assert_eq!(look(0, 7_000_000), 0, "nothing to compare with");
        assert_eq!(look(1, 7_099_000), 0, "9.9 %");
        let first = look(2, 7_200_000);
        assert!(first > 100 && first < 600, "{first}");
        let second = look(3, 8_000_000);
        assert!(second > 0 && second < first, "{second}");
        assert_eq!(look(4, 8_000_000), 0);
        let stats = client.stats();
        assert_eq!(stats.persistent_pages, 2000);
        assert_eq!(stats.ephemeral_pages, 2000 - first - second);
    }
}
