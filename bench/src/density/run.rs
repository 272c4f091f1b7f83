// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One variant from the first boot to the last check.

use crate::density::budget::Budget;
use crate::density::member::Expected;
use crate::density::member::Member;
use crate::density::plan::Plan;
use crate::density::plan::QUOTA;
use crate::density::samples;
use crate::density::samples::Sample;
use crate::density::samples::Sampler;
use crate::density::way::Way;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Serialize;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Assets;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_work::heap::Use;
use tmem_work::histogram::Histogram;

/// Names of the VMs with the daemon; there are no more guests than this.
const VMS: [&str; 8] = ["vm0", "vm1", "vm2", "vm3", "vm4", "vm5", "vm6", "vm7"];

/// The kernel ends the daemon last: it has everybody's pages.
const DAEMON_SCORE: i32 = -900;

/// Between two looks at how much memory is back.
const LOOK: Duration = Duration::from_millis(250);

/// Size of a swap disk of the host's, for each MiB of a guest's RAM.
const DISK_BYTES: u64 = 2 << 20;

/// A guest that did not get to its end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Loss {
    pub(crate) guest: usize,
    /// Since the first guest's boot.
    pub(crate) seconds: f64,
    pub(crate) why: String,
}

/// How the memory of a guest came back after its load had ended, and went again.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Return {
    /// What the guest had at its load's end, beyond what it had after its boot, in bytes.
    pub(crate) used: u64,
    /// Seconds until the group held less by half of that; none if it never did.
    pub(crate) half_s: Option<f64>,
    /// By how much less it held in the end, in bytes.
    pub(crate) back: u64,
    /// Seconds that the first touches of all pages took afterwards.
    pub(crate) touch_s: f64,
    /// The same again, at once.
    pub(crate) again_s: f64,
}

/// All that is known of a variant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) way: Way,
    pub(crate) finished: usize,
    pub(crate) losses: Vec<Loss>,
    /// From the first guest's boot to the end of the last busy phase.
    pub(crate) seconds: f64,
    /// Of busy phases only, on the average; of those that came to their end.
    pub(crate) busy_s: f64,
    pub(crate) phases: u64,
    pub(crate) host_kills: u64,
    pub(crate) guest_kills: usize,
    /// First touches of pages after a guest was idle.
    pub(crate) touches: Histogram,
    pub(crate) mean: u64,
    pub(crate) peak: u64,
    /// Without the page cache of files on disks.
    pub(crate) mean_uncached: u64,
    pub(crate) comes_back: Option<Return>,
    /// Bytes of pages in swap at the end, and what they take in the budget.
    pub(crate) swapped: u64,
    pub(crate) swapped_takes: Option<u64>,
    pub(crate) samples: Vec<Sample>,
}

/// What it is run with.
pub(crate) struct Bench<'a> {
    pub(crate) assets: &'a Assets,
    pub(crate) plan: Plan,
    pub(crate) expected: &'a Expected,
    /// For swap disks and scripts.
    pub(crate) dir: &'a Path,
}

/// A variant under way.
struct Run<'a> {
    bench: &'a Bench<'a>,
    way: Way,
    start: Instant,
    budget: Arc<Budget>,
    members: Vec<Member>,
    losses: Vec<Loss>,
    guest_kills: usize,
    touches: Histogram,
    busy: Vec<Duration>,
}

impl Bench<'_> {
    /// Runs a variant.
    ///
    /// # Errors
    /// Anything but a guest's death, and above all a byte that is wrong.
    pub(crate) fn run(&self, way: Way) -> Result<Outcome> {
        let plan = &self.plan;
        let budget = Arc::new(Budget::new(plan.budget_mib << 20)?);
        let mut assets = self.assets.clone();
        let script = self.dir.join("qemu");
        budget.wrap(&assets.qemu, 0, &script)?;
        assets.qemu = vec![script];
        let script = self.dir.join("vhost-user-tmem");
        budget.wrap(std::slice::from_ref(&assets.daemon), DAEMON_SCORE, &script)?;
        assets.daemon = script;

        let start = Instant::now();
        let sampler = Sampler::start(&budget, start)?;
        let daemon = match way {
            Way::Tmem => Some(Daemon::start(&assets, &self.daemon_options())?),
            _ => None,
        };
        let mut run = Run {
            bench: self,
            way,
            start,
            budget: Arc::clone(&budget),
            members: Vec::new(),
            losses: Vec::new(),
            guest_kills: 0,
            touches: Histogram::default(),
            busy: Vec::new(),
        };
        run.boot(&assets, daemon.as_ref())?;
        for number in 0..plan.guests {
            if run
                .phase(number, "filled its heap", |member| member.fill(plan))?
                .is_some()
            {
                std::thread::sleep(plan.lull());
            }
        }
        for _ in 0..plan.rounds {
            for number in 0..plan.guests {
                run.busy(number)?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let comes_back = run.comes_back()?;
        let (swapped, swapped_takes) = run.swapped(daemon.as_ref())?;
        run.check_all()?;
        let samples = sampler.end();
        let finished = run.members.len();
        run.end()?;
        if let Some(daemon) = daemon {
            daemon.stop()?;
        }
        let host_kills = budget.kills()?;
        let of = |of: &dyn Fn(&Sample) -> u64| samples::mean_and_peak(&samples, seconds, of);
        let (mean, peak) = of(&|sample| sample.held);
        let (mean_uncached, _) = of(&|sample| sample.held.saturating_sub(sample.cached));
        let busy: Duration = run.busy.iter().sum();
        let outcome = Outcome {
            way,
            finished,
            losses: std::mem::take(&mut run.losses),
            seconds,
            busy_s: busy.as_secs_f64() / run.busy.len().max(1) as f64,
            phases: run.busy.len() as u64,
            host_kills,
            guest_kills: run.guest_kills,
            touches: std::mem::take(&mut run.touches),
            mean,
            peak,
            mean_uncached,
            comes_back,
            swapped,
            swapped_takes,
            samples,
        };
        drop(run);
        if let Some(budget) = Arc::into_inner(budget) {
            budget.end()?;
        }
        Ok(outcome)
    }

    fn daemon_options(&self) -> DaemonOptions {
        DaemonOptions {
            vms: VMS.iter().take(self.plan.guests).copied().collect(),
            quota: QUOTA,
            swap_size: "1G",
            memory_limit: self.plan.store,
            ..DaemonOptions::default()
        }
    }
}

impl Run<'_> {
    fn say(&self, text: &str) {
        let held = self.budget.held().unwrap_or_default();
        println!(
            "  {:>4} s  {}: {text}; {} MiB held",
            self.start.elapsed().as_secs(),
            self.way.name(),
            held.bytes >> 20
        );
    }

    fn boot(&mut self, assets: &Assets, daemon: Option<&Daemon>) -> Result<()> {
        let plan = &self.bench.plan;
        for (number, vm) in VMS.into_iter().enumerate().take(plan.guests) {
            let device = daemon.map(|daemon| daemon.socket(vm));
            let disk = match self.way {
                Way::Disk => Some(self.disk(number)?),
                _ => None,
            };
            let booted = Member::boot(assets, plan, self.way, number, device, disk);
            match booted {
                Ok(member) => self.members.push(member),
                Err(error) => self.lost(number, &format!("did not boot: {error:#}")),
            }
        }
        self.say(&format!("{} guests run", self.members.len()));
        Ok(())
    }

    /// Makes an empty disk.
    fn disk(&self, number: usize) -> Result<PathBuf> {
        let path = self.bench.dir.join(format!("swap{number}.raw"));
        let file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        file.set_len(self.bench.plan.memory_mib * DISK_BYTES)
            .with_context(|| format!("cannot size {}", path.display()))?;
        Ok(path)
    }

    fn lost(&mut self, guest: usize, why: &str) {
        self.say(&format!("guest {guest} {why}"));
        self.losses.push(Loss {
            guest,
            seconds: self.start.elapsed().as_secs_f64(),
            why: why.to_string(),
        });
    }

    /// Does `work` with the guest `number`, if it lives. A guest that does not bring
    /// it to its end is lost.
    fn phase<T>(
        &mut self,
        number: usize,
        what: &str,
        work: impl FnOnce(&Member) -> Result<T>,
    ) -> Result<Option<T>> {
        self.bury()?;
        let place = self
            .members
            .iter()
            .position(|member| member.number == number);
        let Some((place, member)) = place.and_then(|at| Some((at, self.members.get(at)?))) else {
            return Ok(None);
        };
        let before = Instant::now();
        let done = match work(member) {
            Ok(done) => done,
            Err(error) => {
                let member = self.members.remove(place);
                let killed = member.killed_inside();
                self.guest_kills += killed;
                let why = match (member.goes(), killed) {
                    (true, _) => "was killed by the host".to_string(),
                    (false, 0) => format!("failed: {error:#}"),
                    (false, _) => "ran out of memory inside".to_string(),
                };
                self.lost(number, &with(why, member.kill()));
                return Ok(None);
            }
        };
        self.say(&format!(
            "guest {number} {what} in {:.1} s",
            before.elapsed().as_secs_f64()
        ));
        Ok(Some(done))
    }

    /// Removes guests that died while they were idle.
    fn bury(&mut self) -> Result<()> {
        while let Some(at) = self.members.iter().position(Member::is_gone) {
            let member = self.members.remove(at);
            let number = member.number;
            self.guest_kills += member.killed_inside();
            let why = "was killed by the host".to_string();
            self.lost(number, &with(why, member.kill()));
        }
        Ok(())
    }

    fn busy(&mut self, number: usize) -> Result<()> {
        let bench = self.bench;
        let before = Instant::now();
        let mut ended = before;
        let done = self.phase(number, "was busy", |member| {
            let used = member.use_heap()?;
            let wrong = member.use_database(&bench.plan, bench.expected)?;
            let again = member.use_heap()?;
            ended = Instant::now();
            Ok((used, wrong, again))
        })?;
        if let Some((used, wrong, again)) = done {
            self.busy.push(ended - before);
            self.right(number, &used)?;
            self.right(number, &again)?;
            if let Some(wrong) = wrong {
                bail!("{}, guest {number}: {wrong}", self.way.name());
            }
            self.touches.merge(&used.touches);
            std::thread::sleep(bench.plan.lull());
        }
        Ok(())
    }

    fn right(&self, number: usize, used: &Use) -> Result<()> {
        if used.wrong > 0 {
            bail!(
                "{}: {} of {} pages of guest {number} are wrong",
                self.way.name(),
                used.wrong,
                used.pages
            );
        }
        Ok(())
    }

    /// Watches how the memory of the last guest that is left comes back after its
    /// load, while all others are idle.
    fn comes_back(&mut self) -> Result<Option<Return>> {
        self.bury()?;
        let Some(number) = self.members.last().map(|member| member.number) else {
            return Ok(None);
        };
        let (budget, plan, bench) = (Arc::clone(&self.budget), self.bench.plan, self.bench);
        let watched = self.phase(number, "was watched", |member| {
            member.use_heap()?;
            let wrong = member.use_database(&plan, bench.expected)?;
            let last = member.use_heap()?;
            let begin = Instant::now();
            let before = budget.held()?.bytes;
            let used = member.backed_bytes()?.saturating_sub(member.booted_bytes);
            let mut half_s = None;
            let mut now = before;
            while begin.elapsed() < plan.rest() {
                std::thread::sleep(LOOK);
                now = budget.held()?.bytes;
                if half_s.is_none() && now + used / 2 <= before {
                    half_s = Some(begin.elapsed().as_secs_f64());
                }
            }
            let (touch, again) = (member.use_heap()?, member.use_heap()?);
            let comes_back = Return {
                used,
                half_s,
                back: before.saturating_sub(now),
                touch_s: touch.touch_microseconds as f64 / 1e6,
                again_s: again.touch_microseconds as f64 / 1e6,
            };
            Ok((comes_back, wrong, [last, touch, again]))
        })?;
        let Some((comes_back, wrong, uses)) = watched else {
            return Ok(None);
        };
        for used in &uses {
            self.right(number, used)?;
        }
        match wrong {
            Some(wrong) => bail!("{}, guest {number}: {wrong}", self.way.name()),
            None => Ok(Some(comes_back)),
        }
    }

    /// Bytes in swap, and what they take.
    fn swapped(&mut self, daemon: Option<&Daemon>) -> Result<(u64, Option<u64>)> {
        self.bury()?;
        let (mut bytes, mut takes) = (0, None);
        for member in &self.members {
            let (swapped, more) = member.swapped(self.way)?;
            bytes += swapped;
            takes = takes
                .or(more.map(|_| 0))
                .zip(more.or(Some(0)))
                .map(|(a, b)| a + b);
            for line in member.tells(self.way).lines() {
                println!("          guest {}: {line}", member.number);
            }
        }
        if let Some(daemon) = daemon {
            let stats = daemon.stats()?;
            let mut sum = 0;
            for vm in VMS.iter().take(self.bench.plan.guests) {
                sum += stats
                    .number(&format!("/vms/{vm}/held_bytes"))
                    .unwrap_or_default();
            }
            takes = Some(sum);
        }
        Ok((bytes, takes))
    }

    /// Every page of everybody's once more.
    fn check_all(&mut self) -> Result<()> {
        for number in 0..self.bench.plan.guests {
            let used = self.phase(number, "was checked", Member::use_heap)?;
            if let Some(used) = used {
                self.right(number, &used)?;
            }
        }
        if self.way == Way::Tmem {
            for member in &self.members {
                let lost = member.lost()?;
                if lost > 0 {
                    bail!("guest {} lost {lost} pages", member.number);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        for member in std::mem::take(&mut self.members) {
            self.guest_kills += member.killed_inside();
            member.power_off()?;
        }
        Ok(())
    }
}

/// Why a guest was lost, and what its kernel complained of.
fn with(why: String, complaint: Option<String>) -> String {
    match complaint {
        Some(complaint) => format!("{why}; {complaint}"),
        None => why,
    }
}
