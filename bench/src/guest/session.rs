// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest with disks, and what is measured about a piece of its work.

use crate::guest::limit::Limit;
use crate::guest::resident;
use crate::guest::volume::Volumes;
use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use tmem_e2e::Assets;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::HostCache;
use tmem_e2e::until;

/// The VM's name with the daemon.
const VM: &str = "vm0";

/// For a disk to appear.
const APPEARS: Duration = Duration::from_secs(60);

/// For a piece of work, on an emulated CPU that others use, too.
const WORK: Duration = Duration::from_secs(1800);

/// Where disks are mounted.
pub(crate) const MOUNT: &str = "/mnt";

/// Sectors of /proc/diskstats.
const SECTOR: u64 = 512;

/// What serves reads beside the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Way {
    /// Nothing: `cache=none`.
    Disk,
    /// The filter, as it is by default.
    Precache,
    /// The filter, which puts what is read for the first time.
    Eager,
    /// The filter, which puts what is evicted.
    Victim,
    /// The host's page cache: `cache=writeback`.
    HostCache,
}

impl Way {
    /// In the order in which they are measured.
    pub(crate) const ALL: [Self; 5] = [
        Self::Disk,
        Self::Precache,
        Self::Eager,
        Self::Victim,
        Self::HostCache,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk alone",
            Self::Precache => "precache",
            Self::Eager => "precache, eager",
            Self::Victim => "victim",
            Self::HostCache => "host page cache",
        }
    }

    fn is_filter(self) -> bool {
        matches!(self, Self::Precache | Self::Eager | Self::Victim)
    }
}

/// What a piece of work did.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// Requests to the guest's disk, by its /proc/diskstats. What the filter
    /// serves is none of them; what the host's page cache serves is.
    pub(crate) guest_reads: u64,
    pub(crate) guest_read_bytes: u64,
    /// What came to the disk itself, below the host's page cache.
    pub(crate) disk_reads: u64,
    pub(crate) disk_read_bytes: u64,
    pub(crate) disk_writes: u64,
    pub(crate) disk_written_bytes: u64,
    /// Pages that the filter had, or had not.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Bytes of the host's memory afterwards: what is resident of the daemon,
    /// but for the guest's memory, or what the page cache has of the disk.
    pub(crate) host_bytes: u64,
    /// Time on this machine's CPUs, of the VM and of the daemon. Unlike the
    /// guest's clock it does not count what else runs here.
    pub(crate) cpu_seconds: f64,
}

impl Measured {
    /// The share of bytes that the guest asked for and that came from the
    /// host's memory.
    pub(crate) fn hit_rate(&self, way: Way) -> Option<f64> {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        match way {
            Way::Disk => None,
            Way::Precache | Way::Eager | Way::Victim => share(self.hits, self.hits + self.misses),
            Way::HostCache => {
                // The host may read ahead.
                let served = self.guest_read_bytes.saturating_sub(self.disk_read_bytes);
                share(served, self.guest_read_bytes)
            }
        }
    }
}

/// What `tmemctl status` says of a filter.
#[derive(Clone, Copy, Default, Deserialize)]
struct Filter {
    hits: u64,
    misses: u64,
}

#[derive(Deserialize)]
struct Status {
    filters: Vec<Filter>,
}

/// A running guest.
pub(crate) struct Session {
    pub(crate) way: Way,
    // In the order in which they must go.
    guest: Guest,
    daemon: Option<Daemon>,
    volumes: Volumes,
}

impl Session {
    /// Boots a guest of `memory_mib` MiB with `images` as its disks.
    pub(crate) fn boot(
        assets: &Assets,
        images: &[PathBuf],
        way: Way,
        limit: Option<Limit>,
        memory_mib: u64,
    ) -> Result<Self> {
        let volumes = Volumes::mount(images, limit)?;
        let drives = (0..images.len()).map(|number| Drive {
            host_cache: match way {
                Way::HostCache => HostCache::Yes,
                _ => HostCache::No,
            },
            ..Drive::new(volumes.path(number))
        });
        let daemon = match way.is_filter() {
            true => Some(Daemon::start(assets, &DaemonOptions::default())?),
            false => None,
        };
        let guest = Guest::boot(
            assets,
            GuestOptions {
                name: "bench".into(),
                memory_mib,
                device: daemon.as_ref().map(|daemon| daemon.socket(VM)),
                drives: drives.collect(),
                storage: true,
                ..GuestOptions::default()
            },
        )?;
        guest.run("modprobe virtio_blk")?;
        guest.run(&format!("mkdir -p {MOUNT}"))?;
        if way.is_filter() {
            let eager = u8::from(way == Way::Eager);
            guest.load_module_with(&format!("precache_eager={eager}"))?;
            guest.disk_appears()?;
        }
        Ok(Self {
            way,
            guest,
            daemon,
            volumes,
        })
    }

    /// Mounts the disk `number`, with a filter if that is the way.
    pub(crate) fn open(&self, number: usize) -> Result<()> {
        let device = device(number);
        until(&device, APPEARS, || {
            let there = self.guest.try_run(&format!("busybox test -b {device}"))?.0 == 0;
            Ok(there.then_some(()))
        })?;
        self.guest.run(&format!(
            "busybox mount -t ext4 -o noatime {device} {MOUNT}"
        ))?;
        if self.way.is_filter() {
            let kind = match self.way {
                Way::Victim => "victim",
                _ => "precache",
            };
            self.guest
                .run(&format!("tmemctl attach {device} --kind {kind}"))?;
        }
        self.guest.write("/proc/sys/vm/drop_caches", "3")
    }

    /// Unmounts it. What the host holds for it goes.
    pub(crate) fn close(&self, number: usize) -> Result<()> {
        if self.way.is_filter() {
            self.guest
                .run(&format!("tmemctl detach {}", device(number)))?;
        }
        self.guest
            .run(&format!("busybox umount {MOUNT}"))
            .map(|_| ())
    }

    /// Does a piece of work on the disk `number`; gives back what it printed
    /// and what it did.
    pub(crate) fn work(&self, number: usize, script: &str) -> Result<(String, Measured)> {
        let before = self.counted(number)?;
        let said = self.guest.sh_within(script, WORK)?;
        let after = self.counted(number)?;
        Ok((
            said,
            Measured {
                guest_reads: after.guest_reads - before.guest_reads,
                guest_read_bytes: after.guest_read_bytes - before.guest_read_bytes,
                disk_reads: after.disk_reads - before.disk_reads,
                disk_read_bytes: after.disk_read_bytes - before.disk_read_bytes,
                disk_writes: after.disk_writes - before.disk_writes,
                disk_written_bytes: after.disk_written_bytes - before.disk_written_bytes,
                hits: after.hits.saturating_sub(before.hits),
                misses: after.misses.saturating_sub(before.misses),
                host_bytes: after.host_bytes,
                cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            },
        ))
    }

    /// All counts since the start.
    fn counted(&self, number: usize) -> Result<Measured> {
        let (guest_reads, guest_read_bytes) = self.diskstats(number)?;
        let disk = self.volumes.counts(number)?;
        let filter = self.filter()?;
        let host_bytes = match (&self.daemon, self.way) {
            (Some(daemon), _) => {
                // Page memory is a file of the daemon's own, and not anonymous.
                let pages = daemon.stats()?.number("/store/mapped_bytes")?;
                pages + resident::anonymous(daemon.pid())?
            }
            (None, Way::HostCache) => resident::bytes(&self.volumes.path(number))?,
            (None, _) => 0,
        };
        let mut cpu_seconds = cpu_seconds(self.guest.pid())?;
        if let Some(daemon) = &self.daemon {
            cpu_seconds += self::cpu_seconds(daemon.pid())?;
        }
        Ok(Measured {
            guest_reads,
            guest_read_bytes,
            disk_reads: disk.reads,
            disk_read_bytes: disk.read_bytes,
            disk_writes: disk.writes,
            disk_written_bytes: disk.written_bytes,
            hits: filter.hits,
            misses: filter.misses,
            host_bytes,
            cpu_seconds,
        })
    }

    fn filter(&self) -> Result<Filter> {
        if !self.way.is_filter() {
            return Ok(Filter::default());
        }
        let text = self.guest.run("tmemctl status --json")?;
        let status: Status =
            serde_json::from_str(&text).with_context(|| format!("tmemctl says {text:?}"))?;
        status
            .filters
            .first()
            .copied()
            .context("no filter is attached")
    }

    /// Reads and the bytes of them that the guest's disk has served.
    fn diskstats(&self, number: usize) -> Result<(u64, u64)> {
        let device = device(number);
        let name = device.trim_start_matches("/dev/");
        let text = self.guest.read("/proc/diskstats")?;
        parse_diskstats(&text, name).with_context(|| format!("/proc/diskstats has no {name}"))
    }

    /// Switches the guest off; its kernel must have stayed healthy.
    pub(crate) fn end(self) -> Result<()> {
        self.guest.power_off()?;
        match self.daemon {
            Some(daemon) => daemon.stop(),
            None => Ok(()),
        }
    }
}

/// CPU time that all threads of a process of this machine have used.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = parse_ticks(&text).with_context(|| format!("{path} is {text:?}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Ticks of a /proc/PID/stat, in user mode and in the kernel (proc(5)).
fn parse_ticks(text: &str) -> Option<u64> {
    // The name may hold anything, but ends with the last bracket.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

/// What the disk `number` is called in the guest.
pub(crate) fn device(number: usize) -> String {
    let letter = ('a'..='z').nth(number).unwrap_or('?');
    format!("/dev/vd{letter}")
}

/// Reads and bytes read of the device `name` (Linux, admin-guide/iostats.rst).
fn parse_diskstats(text: &str, name: &str) -> Option<(u64, u64)> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut fields = lines
        .find(|fields| fields.clone().nth(2) == Some(name))?
        .skip(3);
    let reads = fields.next()?.parse().ok()?;
    let sectors: u64 = fields.nth(1)?.parse().ok()?;
    Some((reads, sectors * SECTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diskstats_of_the_right_disk_are_read() {
        let text = " 254 0 vda 10 2 88 3 0 0 0 0 0 4 3\n 254 16 vdb 7 0 56 1 1 0 8 0 0 4 3\n";
        assert_eq!(parse_diskstats(text, "vda"), Some((10, 88 * 512)));
        assert_eq!(parse_diskstats(text, "vdb"), Some((7, 56 * 512)));
        assert_eq!(parse_diskstats(text, "vdc"), None);
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        let text = "12 (a) b (c)) S 1 12 12 0 -1 4194560 1 0 0 0 250 37 0 0 20 0 3 0 99 1";
        assert_eq!(parse_ticks(text), Some(287));
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert_eq!(parse_ticks("12 (a) S 1"), None);
    }

    #[test]
    fn the_hit_rate_is_that_of_the_way() {
        let measured = Measured {
            guest_read_bytes: 1000,
            disk_read_bytes: 250,
            hits: 1,
            misses: 3,
            ..Measured::default()
        };
        assert_eq!(measured.hit_rate(Way::Disk), None);
        assert_eq!(measured.hit_rate(Way::Eager), Some(0.25));
        assert_eq!(measured.hit_rate(Way::HostCache), Some(0.75));
        assert_eq!(Measured::default().hit_rate(Way::Precache), None);
    }
}
