// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Several disks under load in one guest, while everything that may happen to
//! the filter happens to it at random.

use crate::bed;
use crate::filter;
use crate::filter::control;
use crate::filter::places::Disk;
use crate::filter::places::Ended;
use crate::filter::places::Place;
use crate::filter::places::Use;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Bus;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Guest;
use tmem_e2e::Host;

/// RAM of the guest in MiB: the programs with their models, and some of what
/// they read.
const MEMORY: u64 = 448;

/// What the VM may use on the host: less than one of its disks, so that the
/// host forgets pages all the time.
const QUOTAS: [u64; 4] = [2 << 20, 8 << 20, 24 << 20, 256 << 20];

/// How much longer a session may take on a machine that is slow.
const PATIENCE: u32 = 6;

/// The VM's name with the daemon.
const VM: &str = "vm0";

/// How a session goes.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// For messages, and names the guest.
    pub(super) name: &'static str,
    /// From which the random choices follow.
    pub(super) seed: u32,
    /// What the disks are used as.
    pub(super) uses: Vec<Use>,
    /// For how long at least: with a filter it goes on, up to [`PATIENCE`] times as long, until the
    /// host has served a page.
    pub(super) time: Duration,
    /// Whether there is a filter; without, there is no module and no daemon.
    pub(super) filter: bool,
    /// Whether filters put what is evicted, and the guest is short of memory now and then; otherwise
    /// they put what is read.
    pub(super) victims: bool,
    /// Whether to print what is done.
    pub(super) verbose: bool,
}

/// What a session was.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// What was done to the filter, and how often.
    pub(super) deeds: BTreeMap<&'static str, u64>,
    /// Pages that came from the host, and that it took.
    pub(super) hits: u64,
    pub(super) puts: u64,
    /// What the load on each disk did.
    pub(super) reports: Vec<(&'static str, tmem_load::report::Report)>,
}

impl Summary {
    /// For people, and for docs.
    pub(super) fn table(&self) -> String {
        let mut lines = vec![format!(
            "{} pages came from the host, which took {}",
            self.hits, self.puts
        )];
        for (deed, count) in &self.deeds {
            lines.push(format!("{count:>6} x {deed}"));
        }
        for (name, report) in &self.reports {
            lines.push(format!(
                "{name:>6}: {} operations, {} MiB compared, {} checks of all",
                report.total(),
                report.verified_bytes >> 20,
                report.checks
            ));
        }
        lines.join("\n")
    }
}

struct Session {
    plan: Plan,
    random: Rng,
    start: Instant,
    guest: Guest,
    daemon: Option<(DaemonPlace, Daemon)>,
    places: Vec<Place>,
    summary: Summary,
}

/// Runs a session.
pub(super) fn run(plan: &Plan) -> Result<Summary> {
    let seed = plan.seed;
    Session::start(plan.clone())
        .and_then(|mut session| {
            let outcome = session.work();
            outcome.and_then(|()| session.end())
        })
        .with_context(|| format!("{} with {}={seed}", plan.name, filter::SEED))
}

impl Session {
    fn start(plan: Plan) -> Result<Self> {
        let mut random = Rng::with_seed(u64::from(plan.seed));
        let buses = [Bus::Virtio, Bus::Nvme, Bus::Scsi];
        // The first has a second disk. Two SCSI disks have their names in any order.
        let turn = random.usize(0..buses.len() - 1);
        let mut disks = Vec::new();
        for (number, usage) in plan.uses.iter().enumerate() {
            let bus = buses.get((turn + number) % buses.len());
            // The raw disk has no partitions; of the others, one in two.
            let partition = *usage != Use::Raw && random.bool();
            disks.push(Disk::new(
                *usage,
                bus.copied().unwrap_or_default(),
                partition,
            )?);
        }
        let drives = disks.iter().map(Disk::drive).collect();
        let mut guest = filter::guest(plan.name, MEMORY, drives)?;
        let devices = Disk::devices(&guest, &disks)?;
        let mut daemon = None;
        if plan.filter {
            let host = Host::here(&bed::assets()?)?;
            let options = DaemonOptions {
                quota: "8M",
                swap_size: "64M",
                memory_limit: "64M",
                ..DaemonOptions::default()
            };
            let place = DaemonPlace::new(&host, options)?;
            let running = place.start()?;
            guest.load_module_with("precache_eager=1")?;
            guest.sh("mkdir -p /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup")?;
            guest.plug(&place.socket(VM))?;
            daemon = Some((place, running));
        }
        // They are ended when the time is up, which takes long.
        let seconds = plan.time.as_secs() * 10 + 3600;
        let mut places = Vec::new();
        for (number, (disk, device)) in disks.into_iter().zip(devices).enumerate() {
            let seed = plan.seed.wrapping_add(u32::try_from(number)?);
            places.push(Place::start(&guest, disk, device, seed, seconds)?);
        }
        Ok(Self {
            plan,
            random,
            start: Instant::now(),
            guest,
            daemon,
            places,
            summary: Summary::default(),
        })
    }

    fn work(&mut self) -> Result<()> {
        while self.goes_on()? {
            let deed = self.deed()?;
            *self.summary.deeds.entry(deed).or_default() += 1;
            self.say(deed);
            self.guest.healthy()?;
            for place in &mut self.places {
                place.load.goes_on()?;
            }
            // The load goes on for a random while; nothing is waited for.
            std::thread::sleep(Duration::from_millis(self.random.u64(0..1500)));
        }
        Ok(())
    }

    fn goes_on(&self) -> Result<bool> {
        let elapsed = self.start.elapsed();
        if elapsed < self.plan.time {
            return Ok(true);
        }
        if !self.plan.filter || elapsed > self.plan.time * PATIENCE {
            return Ok(false);
        }
        Ok(self.summary.hits + self.counts()?.0 == 0)
    }

    /// Does something at random.
    fn deed(&mut self) -> Result<&'static str> {
        let one = self.random.usize(0..self.places.len());
        if !self.plan.filter {
            return match self.random.u32(0..4) {
                0 => self.check(one).map(|()| "check without a filter"),
                _ => Ok("wait"),
            };
        }
        // What is evicted comes back only while its filter is there.
        let most = if self.plan.victims { 30 } else { 20 };
        match self.random.u32(0..most) {
            19.. if self.plan.victims => self.evict().map(|()| "evict"),
            0..=9 if self.is_attached(one) => {
                self.detach(one)?;
                if self.random.bool() {
                    self.check(one)?;
                    return Ok("detach and check");
                }
                Ok("detach")
            }
            0..=9 => self.attach(one).map(|()| "attach"),
            10..=12 => self.check(one).map(|()| "check"),
            13..=14 => self.quota().map(|()| "change the quota"),
            15 => self.restart(false).map(|()| "restart the daemon"),
            16 => self.restart(true).map(|()| "kill the daemon"),
            17 => self.reload().map(|()| "reload the module"),
            _ => Ok("wait"),
        }
    }

    /// The kernel takes memory from the load, or drops all that is clean.
    fn evict(&mut self) -> Result<()> {
        let script = if self.random.bool() {
            // It may find less.
            "echo 32M 2>/dev/null >/sys/fs/cgroup/memory.reclaim || true"
        } else {
            "echo 1 >/proc/sys/vm/drop_caches"
        };
        self.guest.sh(script).map(|_| ())
    }

    fn is_attached(&self, number: usize) -> bool {
        self.places.get(number).is_some_and(|place| place.attached)
    }

    fn attach(&mut self, number: usize) -> Result<()> {
        let place = self.places.get_mut(number).context("no such disk")?;
        let kind = if self.plan.victims {
            "victim"
        } else {
            "precache"
        };
        control::attach(&self.guest, &place.device, kind)?;
        place.attached = true;
        Ok(())
    }

    fn detach(&mut self, number: usize) -> Result<()> {
        let before = self.counts()?;
        let place = self.places.get_mut(number).context("no such disk")?;
        control::detach(&self.guest, &place.device)?;
        place.attached = false;
        // What was counted goes with the filter.
        let after = self.counts()?;
        self.summary.hits += before.0.saturating_sub(after.0);
        self.summary.puts += before.1.saturating_sub(after.1);
        Ok(())
    }

    fn counts(&self) -> Result<(u64, u64)> {
        let hits = control::total(&self.guest, "hits")?;
        Ok((hits, control::total(&self.guest, "puts")?))
    }

    fn check(&mut self, number: usize) -> Result<()> {
        let place = self.places.get_mut(number).context("no such disk")?;
        let bytes = place.load.check()?;
        ensure!(bytes > 0, "{} has nothing to compare", place.device);
        Ok(())
    }

    fn quota(&mut self) -> Result<()> {
        let quota = self.random.choice(QUOTAS).context("no quotas")?;
        let (_, daemon) = self.daemon.as_ref().context("no daemon")?;
        daemon.set_quota(VM, quota)
    }

    /// The daemon ends, in order or not, and another one takes its place.
    fn restart(&mut self, kill: bool) -> Result<()> {
        self.guest.has_device()?;
        let (place, daemon) = self.daemon.take().context("no daemon")?;
        if kill {
            daemon.kill()?;
            self.guest.unplug()?;
        } else {
            self.guest.unplug()?;
            daemon.stop()?;
        }
        // For a while there is no device at all.
        std::thread::sleep(Duration::from_millis(self.random.u64(0..2000)));
        let running = place.start()?;
        self.guest.plug(&place.socket(VM))?;
        self.daemon = Some((place, running));
        Ok(())
    }

    fn reload(&mut self) -> Result<()> {
        self.detach_all()?;
        self.guest.run("rmmod virtio_tmem")?;
        self.load()
    }

    /// Loads the module, to put blocks when they are first read, or later.
    fn load(&mut self) -> Result<()> {
        let eager = u8::from(self.random.bool());
        self.guest
            .load_module_with(&format!("precache_eager={eager}"))
    }

    fn detach_all(&mut self) -> Result<()> {
        for number in 0..self.places.len() {
            if self.is_attached(number) {
                self.detach(number)?;
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<Summary> {
        if self.plan.filter {
            // The last check but one is through the filter, all at once.
            for place in &mut self.places {
                place.load.checks()?;
            }
            for place in &mut self.places {
                place.load.checked()?;
            }
            self.detach_all()?;
        }
        // All at once: each last check is the faster.
        for place in &mut self.places {
            place.load.ends()?;
        }
        let mut ended: Vec<Ended> = Vec::new();
        for place in self.places.drain(..) {
            ended.push(place.end(&self.guest)?);
        }
        if self.plan.filter {
            self.guest.run("rmmod virtio_tmem")?;
        }
        self.guest.power_off()?;
        if let Some((_, daemon)) = self.daemon.take() {
            daemon.stop()?;
        }
        for disk in ended {
            disk.check()?;
            self.summary.reports.push((disk.usage.name(), disk.report));
        }
        Ok(self.summary)
    }

    fn say(&self, deed: &str) {
        if self.plan.verbose {
            let seconds = self.start.elapsed().as_secs();
            let attached = self.places.iter().filter(|place| place.attached).count();
            println!("{seconds:>6} s  {deed}; {attached} attached");
        }
    }
}
