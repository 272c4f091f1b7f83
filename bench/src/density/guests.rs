// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guests of a variant under way: what they do, and what becomes of them.

use crate::density::bench::Bench;
use crate::density::bench::VMS;
use crate::density::budget::Budget;
use crate::density::member::Busy;
use crate::density::member::Member;
use crate::density::outcome::Loss;
use crate::density::outcome::Return;
use crate::density::way::Way;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Assets;
use tmem_e2e::Daemon;
use tmem_work::histogram::Histogram;
use tmem_work::service::Use;

/// Between two looks at how much memory is back.
const LOOK: Duration = Duration::from_millis(250);

/// Size of a swap disk of the host's, for each MiB of a guest's RAM.
const DISK_BYTES: u64 = 2 << 20;

/// All guests that are left, and what is known of the others.
pub(crate) struct Guests<'a> {
    bench: &'a Bench<'a>,
    way: Way,
    start: Instant,
    budget: Arc<Budget>,
    members: Vec<Member>,
    pub(crate) losses: Vec<Loss>,
    /// Of guests that got to their end all the same.
    pub(crate) complaints: Vec<String>,
    pub(crate) guest_kills: usize,
    /// First touches of documents after a guest was idle.
    pub(crate) touches: Histogram,
    /// Busy phases that came to their end.
    pub(crate) busy: Vec<Duration>,
}

impl<'a> Guests<'a> {
    /// None so far; `start` is when the variant began.
    pub(crate) fn new(
        bench: &'a Bench<'a>,
        way: Way,
        start: Instant,
        budget: &Arc<Budget>,
    ) -> Self {
        Self {
            bench,
            way,
            start,
            budget: Arc::clone(budget),
            members: Vec::new(),
            losses: Vec::new(),
            complaints: Vec::new(),
            guest_kills: 0,
            touches: Histogram::default(),
            busy: Vec::new(),
        }
    }

    /// Those that live.
    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    fn say(&self, text: &str) {
        let held = self.budget.held().unwrap_or_default();
        println!(
            "  {:>4} s  {}: {text}; {} MiB held",
            self.start.elapsed().as_secs(),
            self.way.name(),
            held.bytes >> 20
        );
    }

    /// Boots all of them.
    ///
    /// # Errors
    /// A swap disk cannot be made. A guest that does not boot is lost, which is no error.
    pub(crate) fn boot(&mut self, assets: &Assets, daemon: Option<&Daemon>) -> Result<()> {
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

    /// Does `work` with the guest `number`, if it lives, and says how long that took.
    fn phase<T>(
        &mut self,
        number: usize,
        what: &str,
        work: impl FnOnce(&Member) -> Result<T>,
    ) -> Option<T> {
        self.bury();
        let before = Instant::now();
        let done = self.with(number, work)?;
        let seconds = before.elapsed().as_secs_f64();
        self.say(&format!("guest {number} {what} in {seconds:.1} s"));
        Some(done)
    }

    /// Does `work` with the guest `number`, if it lives. A guest that does not bring
    /// it to its end is lost.
    fn with<T>(&mut self, number: usize, work: impl FnOnce(&Member) -> Result<T>) -> Option<T> {
        let at = self.place(|member| member.number == number)?;
        match work(self.members.get(at)?) {
            Ok(done) => Some(done),
            Err(error) => {
                self.remove(at, &format!("failed: {error:#}"));
                None
            }
        }
    }

    /// Removes guests that died while they were idle.
    fn bury(&mut self) {
        while let Some(at) = self.place(Member::is_gone) {
            self.remove(at, "was idle");
        }
    }

    fn place(&self, is_it: impl Fn(&Member) -> bool) -> Option<usize> {
        self.members.iter().position(is_it)
    }

    /// Counts a guest as lost: to a kernel, or else because of `what`.
    fn remove(&mut self, at: usize, what: &str) {
        let member = self.members.remove(at);
        let (number, killed) = (member.number, member.killed_inside());
        self.guest_kills += killed;
        let mut why = match (member.goes(), killed) {
            (true, _) => "was killed by the host",
            (false, 0) => what,
            (false, _) => "ran out of memory inside",
        }
        .to_string();
        if let Some(complaint) = member.kill() {
            why = format!("{why}; {complaint}");
        }
        self.lost(number, &why);
    }

    /// Has a guest's service fill its heap.
    pub(crate) fn fill(&mut self, number: usize) {
        let plan = &self.bench.plan;
        let filled = self.phase(number, "filled its service", |member| member.fill(plan));
        if filled.is_some() {
            std::thread::sleep(plan.lull());
        }
    }

    /// Has a guest use its service and a database, and then be idle.
    ///
    /// # Errors
    /// A byte is wrong.
    pub(crate) fn busy(&mut self, number: usize) -> Result<()> {
        let bench = self.bench;
        let done = self.phase(number, "was busy", |member| {
            member.busy(&bench.plan, bench.expected)
        });
        if let Some(done) = done {
            self.all_right(number, &done)?;
            self.busy.push(done.took);
            self.touches.merge(&done.first.touches);
            std::thread::sleep(bench.plan.lull());
        }
        Ok(())
    }

    fn all_right(&self, number: usize, busy: &Busy) -> Result<()> {
        self.right(number, &busy.first)?;
        self.right(number, &busy.again)?;
        match &busy.wrong {
            Some(wrong) => bail!("{}, guest {number}: {wrong}", self.way.name()),
            None => Ok(()),
        }
    }

    fn right(&self, number: usize, used: &Use) -> Result<()> {
        if used.wrong > 0 {
            bail!(
                "{}: {} of {} documents of guest {number} are wrong",
                self.way.name(),
                used.wrong,
                used.documents
            );
        }
        Ok(())
    }

    /// Watches how the memory of the last guest that is left comes back after its
    /// load, while all others are idle.
    ///
    /// # Errors
    /// A byte is wrong.
    pub(crate) fn comes_back(&mut self) -> Result<Option<Return>> {
        self.bury();
        let Some(number) = self.members.last().map(|member| member.number) else {
            return Ok(None);
        };
        let (budget, bench) = (Arc::clone(&self.budget), self.bench);
        let plan = &bench.plan;
        let watched = self.phase(number, "was watched", |member| {
            let busy = member.busy(plan, bench.expected)?;
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
            let (touch, again) = (member.use_service()?, member.use_service()?);
            let comes_back = Return {
                used,
                half_s,
                back: before.saturating_sub(now),
                touch_s: touch.touch_microseconds as f64 / 1e6,
                again_s: again.touch_microseconds as f64 / 1e6,
            };
            Ok((comes_back, busy, [touch, again]))
        });
        let Some((comes_back, busy, uses)) = watched else {
            return Ok(None);
        };
        self.all_right(number, &busy)?;
        for used in &uses {
            self.right(number, used)?;
        }
        Ok(Some(comes_back))
    }

    /// Bytes in swap, and what they take.
    ///
    /// # Errors
    /// The daemon does not say.
    pub(crate) fn swapped(&mut self, daemon: Option<&Daemon>) -> Result<(u64, Option<u64>)> {
        let (mut bytes, mut takes) = (0, None);
        let way = self.way;
        for number in 0..self.bench.plan.guests {
            let told = self.with(number, |member| {
                Ok((member.swapped(way)?, member.tells(way)))
            });
            let Some(((swapped, more), text)) = told else {
                continue;
            };
            bytes += swapped;
            if let Some(more) = more {
                *takes.get_or_insert(0) += more;
            }
            for line in text.lines() {
                println!("          guest {number}: {line}");
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
    ///
    /// # Errors
    /// A byte is wrong, or a page is lost.
    pub(crate) fn check_all(&mut self) -> Result<()> {
        for number in 0..self.bench.plan.guests {
            // One guest is busy at a time here, too.
            std::thread::sleep(self.bench.plan.lull());
            let used = self.phase(number, "was checked", Member::use_service);
            if let Some(used) = used {
                self.right(number, &used)?;
            }
            if self.way == Way::Tmem
                && let Some(lost @ 1..) = self.with(number, Member::lost)
            {
                bail!("guest {number} lost {lost} pages");
            }
        }
        Ok(())
    }

    /// Switches all of them off, and keeps what their kernels complained of: one that
    /// stood still while the host had no memory says so.
    pub(crate) fn end(&mut self) {
        for member in std::mem::take(&mut self.members) {
            self.guest_kills += member.killed_inside();
            let number = member.number;
            if let Err(error) = member.power_off() {
                let text = format!("{error:#}").replace('\n', " ");
                self.complaints.push(format!("guest {number}: {text}"));
            }
        }
    }
}
