// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where pages came from: what a disk and its filter have counted.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

pub(super) const PAGE: u64 = 4096;

/// Sectors of a page, as the kernel counts them.
const SECTORS: u64 = 8;

/// Where the kernel has the sectors that were read, in the line about a disk.
const SECTORS_READ: usize = 2;

/// The least part of what is read that is to come from where it should.
const LEAST: f64 = 0.9;

/// What a filter has counted since it was attached, in pages.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub(super) struct Filter {
    /// Those that the host has.
    pub(super) pages: u64,
    /// Read from the host.
    hits: u64,
    /// Read from the disk.
    misses: u64,
    puts: u64,
    refused: u64,
    skipped: u64,
    changed: u64,
    evicted: u64,
}

impl Filter {
    /// Takes it from the status of the module, as `tmemctl` has it; `disk` is the path of the
    /// filter's device.
    pub(super) fn of(status: &str, disk: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Status {
            filters: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            device: String,
            #[serde(flatten)]
            filter: Filter,
        }
        let status: Status =
            serde_json::from_str(status).context("the status is not what it was")?;
        let mut filters = status.filters.into_iter();
        let found = filters.find(|named| named.device == disk);
        Ok(found
            .with_context(|| format!("{disk} has no filter"))?
            .filter)
    }

    /// All that was evicted has come to the host, or will not.
    pub(super) fn is_settled(&self) -> bool {
        self.evicted <= self.puts + self.refused + self.skipped + self.changed
    }
}

/// Pages of a disk that were read from it, of the kernel's line about it.
pub(super) fn pages_read(stat: &str) -> Result<u64> {
    let sectors = stat.split_ascii_whitespace().nth(SECTORS_READ);
    let sectors: u64 = sectors.context("no count of sectors")?.parse()?;
    Ok(sectors / SECTORS)
}

/// From where files are to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From the disk, or from the host, as far as it has them already.
    Any,
    Host,
}

/// Pages that came from the disk and from the host while files were read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Origin {
    disk: u64,
    host: u64,
}

impl Origin {
    /// By counts from before and after; a disk without a filter has none of the latter.
    pub(super) fn new(disk: (u64, u64), filter: Option<(Filter, Filter)>) -> Self {
        let (before, after) = filter.unwrap_or_default();
        Self {
            disk: disk.1.saturating_sub(disk.0),
            host: after.hits.saturating_sub(before.hits),
        }
    }

    /// The part that came from `source`, of all that came, and of as many `bytes` as were read if
    /// the page cache had some of them.
    pub(super) fn share(&self, source: Source, bytes: u64) -> f64 {
        let part = match source {
            Source::Any => self.disk + self.host,
            Source::Host => self.host,
        };
        let all = (self.disk + self.host).max(bytes.div_ceil(PAGE)).max(1);
        part as f64 / all as f64
    }

    /// Fails unless it comes from where it is to.
    pub(super) fn check(&self, source: Source, bytes: u64) -> Result<()> {
        let share = self.share(source, bytes);
        ensure!(
            share >= LEAST,
            "{:.1} % of {} pages came from {}, and not {:.0} %: {} from the disk, {} from the \
             host, the rest from the guest's page cache",
            share * 100.0,
            bytes.div_ceil(PAGE),
            match source {
                Source::Any => "below the page cache",
                Source::Host => "the host",
            },
            LEAST * 100.0,
            self.disk,
            self.host,
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"version":1,"device":{"is_attached":true},"filters":[
        {"device":"/dev/nullb1","kind":"victim","pages":1,"hits":2,"misses":3,"puts":4,
         "refused":0,"skipped":0,"changed":0,"evicted":5,"errors":0},
        {"device":"/dev/nullb0","kind":"victim","pages":7,"hits":90,"misses":10,"puts":20,
         "refused":1,"skipped":2,"changed":1,"evicted":24,"errors":0}],"warnings":[]}"#;

    #[test]
    fn a_filter_is_found_by_its_disk() {
        let filter = Filter::of(STATUS, "/dev/nullb0").unwrap();
        assert_eq!((filter.pages, filter.hits), (7, 90));
        assert!(filter.is_settled());
        assert!(!Filter::of(STATUS, "/dev/nullb1").unwrap().is_settled());
        assert!(Filter::of(STATUS, "/dev/nullb2").is_err());
        assert!(Filter::of("{}", "/dev/nullb0").is_err());
    }

    #[test]
    fn the_kernel_counts_sectors() {
        let stat = "    1000       12    80008      100   0 0 0 0 0 0 0\n";
        assert_eq!(pages_read(stat).unwrap(), 10_001);
        assert!(pages_read("1 2").is_err());
    }

    #[test]
    fn what_the_page_cache_serves_comes_from_nowhere() {
        let filter = |hits| Filter {
            hits,
            ..Filter::default()
        };
        let bytes = 1000 * PAGE - 7;
        let origin = Origin::new((50, 100), Some((filter(1), filter(951))));
        assert_eq!(
            origin,
            Origin {
                disk: 50,
                host: 950
            }
        );
        origin.check(Source::Host, bytes).unwrap();
        // Had the second half been there already, it would be no reading of a disk.
        let origin = Origin::new((0, 500), None);
        origin.check(Source::Any, bytes).unwrap_err();
        // All that came, came from the host, but that was half only.
        let origin = Origin::new((0, 0), Some((filter(0), filter(500))));
        assert!((origin.share(Source::Host, bytes) - 0.5).abs() < 1e-9);
        let error = origin.check(Source::Host, bytes).unwrap_err().to_string();
        assert!(error.starts_with("50.0 % of 1000 pages"), "{error}");
        // The kernel's own blocks count, too.
        let origin = Origin::new((7, 2007), None);
        assert!((origin.share(Source::Any, bytes) - 1.0).abs() < 1e-9);
    }
}
