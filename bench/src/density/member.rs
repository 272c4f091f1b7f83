// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One of the guests: what it runs, and whether all of its data is right.

use crate::density::cold;
use crate::density::plan::Plan;
use crate::density::way::Way;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use tmem_e2e::Assets;
use tmem_e2e::Drive;
use tmem_e2e::Guest;
use tmem_e2e::GuestOptions;
use tmem_e2e::until;
use tmem_work::Outcome;
use tmem_work::database;
use tmem_work::service::Use;

/// For an order to be carried out: many times what it takes. A host without memory may drop the
/// pages of QEMU's program again and again instead of ending a guest, which then stands still.
pub(crate) const STALL: Duration = Duration::from_secs(120);

/// The agent, from which this is inherited, hides from the kernel's killer; its work does not.
const UNHIDE: &str = "echo 0 >/proc/self/oom_score_adj";

/// For a device to appear.
const APPEARS: Duration = Duration::from_secs(60);

/// Most memory for translated code of each emulated CPU, in MiB: QEMU would take a gigabyte.
const TRANSLATED_MIB: u32 = 32;

/// For a process that was killed to be gone, with its memory.
const GOES: Duration = Duration::from_secs(5);

/// Where the service listens, and where the database is, in the guest.
const SOCKET: &str = "/tmp/service.sock";
const DATABASE: &str = "/tmp/texts.db";

/// What the kernel says when it has killed a program for want of memory.
const KILLED: &str = "Out of memory: Killed process";

/// What reading the database must give.
pub(crate) struct Expected {
    scan: Outcome,
    rows: Outcome,
}

impl Expected {
    /// Makes the same database here, in `dir`, and reads it.
    pub(crate) fn of(plan: &Plan, dir: &Path) -> Result<Self> {
        let path = dir.join("texts.db");
        database::make(&path, plan.database_mib)?;
        Ok(Self {
            scan: database::scan(&path)?,
            rows: database::read(&path, plan.rows, plan.database_mib)?,
        })
    }
}

/// What came of a busy phase.
pub(crate) struct Busy {
    /// The service's uses, before the database's and after it.
    pub(crate) first: Use,
    pub(crate) again: Use,
    /// What of the database was wrong, if anything.
    pub(crate) wrong: Option<String>,
    pub(crate) took: Duration,
}

/// A running guest.
pub(crate) struct Member {
    pub(crate) number: usize,
    guest: Guest,
    /// What it had of the host's memory before its service was started.
    pub(crate) booted_bytes: u64,
}

impl Member {
    /// Boots it, and sets up where its pages go.
    pub(crate) fn boot(
        assets: &Assets,
        plan: &Plan,
        way: Way,
        number: usize,
        device: Option<PathBuf>,
        disk: Option<PathBuf>,
    ) -> Result<Self> {
        let guest = Guest::boot(
            assets,
            GuestOptions {
                name: format!("density-{}-{number}", way.word()),
                memory_mib: plan.memory_mib,
                cpus: 1,
                device,
                drives: disk.map(Drive::new).into_iter().collect(),
                storage: true,
                balloon: way.has_balloon(),
                translated_mib: Some(TRANSLATED_MIB),
                ..GuestOptions::default()
            },
        )?;
        set_up(&guest, plan, way)?;
        Ok(Self {
            number,
            booted_bytes: guest.backed_bytes()?,
            guest,
        })
    }

    /// Starts its service and waits until that is filled.
    pub(crate) fn fill(&self, plan: &Plan) -> Result<()> {
        self.sh(&format!(
            "{UNHIDE}\n\
             work serve --mib {} --seed {} {SOCKET} >/tmp/service.log 2>&1 &\n\
             until busybox test -S {SOCKET}; do\n\
             \tkill -0 $! 2>/dev/null || {{ cat /tmp/service.log; exit 1; }}\n\
             \tsleep 0.2\n\
             done",
            plan.heap_mib, self.number
        ))
        .map(|_| ())
    }

    /// Uses the service, a database, and the service again.
    pub(crate) fn busy(&self, plan: &Plan, expected: &Expected) -> Result<Busy> {
        let begin = Instant::now();
        let first = self.use_service()?;
        let wrong = self.use_database(plan, expected)?;
        let again = self.use_service()?;
        Ok(Busy {
            first,
            again,
            wrong,
            took: begin.elapsed(),
        })
    }

    /// Uses the service.
    pub(crate) fn use_service(&self) -> Result<Use> {
        self.json(&format!("work use {SOCKET}"))
    }

    /// Makes a database, reads it, and throws it away.
    fn use_database(&self, plan: &Plan, expected: &Expected) -> Result<Option<String>> {
        self.sh(&format!(
            "{UNHIDE}; work make {DATABASE} --mib {}",
            plan.database_mib
        ))?;
        let scan: Outcome = self.json(&format!("{UNHIDE}; work scan {DATABASE}"))?;
        let rows: Outcome = self.json(&format!(
            "{UNHIDE}; work read {DATABASE} --count {} --seed {}",
            plan.rows, plan.database_mib
        ))?;
        self.sh(&format!(
            "{UNHIDE}; work check {DATABASE}; busybox rm {DATABASE}"
        ))?;
        let wrong = |what, found: &Outcome, right: &Outcome| {
            (!found.is_like(right)).then(|| format!("{what} read {found:?}, not {right:?}"))
        };
        Ok(wrong("a scan", &scan, &expected.scan).or(wrong("single reads", &rows, &expected.rows)))
    }

    /// Memory of the host's that it has.
    pub(crate) fn backed_bytes(&self) -> Result<u64> {
        self.guest.backed_bytes()
    }

    /// Bytes of pages in swap, and what they take where the guest knows.
    pub(crate) fn swapped(&self, way: Way) -> Result<(u64, Option<u64>)> {
        let of = |name| -> Result<u64> { Ok(self.guest.meminfo(name)? << 10) };
        let swapped = of("SwapTotal")?.saturating_sub(of("SwapFree")?);
        let takes = match way {
            Way::Zram => {
                let text = self.guest.read("/sys/block/zram0/mm_stat")?;
                text.split_whitespace().nth(2).and_then(|n| n.parse().ok())
            }
            _ => None,
        };
        Ok((swapped, takes))
    }

    /// What the guest itself says of what it gave back, for the log.
    pub(crate) fn tells(&self, way: Way) -> String {
        let script = match way {
            Way::Tmem => "tmemctl give-back status",
            _ => "cat /proc/pressure/memory",
        };
        self.guest
            .sh(script)
            .unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Pages that virtio-tmem had and has not any more.
    pub(crate) fn lost(&self) -> Result<u64> {
        self.guest.counter("lost")
    }

    /// Programs that its kernel has killed for want of memory.
    pub(crate) fn killed_inside(&self) -> usize {
        self.guest.console().matches(KILLED).count()
    }

    /// Whether QEMU has ended, by itself or because it was killed.
    pub(crate) fn is_gone(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.guest.pid()));
        stat.map_or(true, |text| {
            text.rsplit_once(") ")
                .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
        })
    }

    /// The same of a guest that does not answer: it may be about to.
    pub(crate) fn goes(&self) -> bool {
        until("the end of a guest", GOES, || {
            Ok(self.is_gone().then_some(()))
        })
        .is_ok()
    }

    /// Ends it at once. Says what its kernel complained of, if anything.
    pub(crate) fn kill(self) -> Option<String> {
        self.guest.kill().err().map(|error| format!("{error:#}"))
    }

    /// Switches it off.
    pub(crate) fn power_off(self) -> Result<()> {
        self.guest.power_off()
    }

    fn sh(&self, script: &str) -> Result<String> {
        self.guest.sh_within(script, STALL)
    }

    fn json<T: DeserializeOwned>(&self, script: &str) -> Result<T> {
        let text = self.sh(script)?;
        serde_json::from_str(&text).with_context(|| format!("{script} says {text:?}"))
    }
}

/// Sets up where the guest's pages go.
fn set_up(guest: &Guest, plan: &Plan, way: Way) -> Result<()> {
    if way.has_balloon() {
        cold::prepare_reporting(guest)?;
        guest.run("modprobe virtio_balloon")?;
    }
    match way {
        Way::Nothing | Way::Reporting => return Ok(()),
        Way::Zram => {
            guest.run("modprobe zram")?;
            let bytes = plan.memory_mib << 20;
            guest.write("/sys/block/zram0/disksize", &bytes.to_string())?;
        }
        Way::Disk => {
            guest.run("modprobe virtio_blk")?;
            until("the swap disk", APPEARS, || {
                let (code, _) = guest.try_run("busybox test -b /dev/vda")?;
                Ok((code == 0).then_some(()))
            })?;
        }
        Way::Tmem => {
            guest.load_module()?;
            guest.disk_appears()?;
        }
    }
    if let Some(swap) = way.swap() {
        guest.run(&format!("mkswap {swap}"))?;
        guest.run(&format!("swapon {swap}"))?;
    }
    if way == Way::Tmem {
        let said = guest.run(&cold::command())?;
        ensure!(!said.contains("nothing is given back"), "{said}");
        cold::as_meant(guest)
    } else {
        cold::begin(guest)
    }
}
