// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory in huge pages, of which a host has a pool, and others may take from
//! it what was given back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::Guest;
use tmem_e2e::Host;
use tmem_e2e::VmOptions;
use tmem_e2e::Vmm;
use tmem_e2e::until;

use super::ends_right;
use super::large_job;
use super::machine;
use super::on_host;
use crate::bed;

/// RAM of the guest in MiB, and as many huge pages.
const MEMORY: u64 = 224;
const PAGES: u64 = MEMORY / 2;

/// For the kernel to report what is free, a part of it every so often.
const REPORTED: Duration = Duration::from_secs(300);

/// For a guest that stands still to be noticed.
const NOTICED: Duration = Duration::from_secs(240);

#[test]
fn a_guest_of_huge_pages_keeps_them_or_ends_with_a_sentence() -> Result<()> {
    on_host(&machine("huge"), |host| {
        if host.outer().is_none() {
            // Other programs of this machine may need its huge pages.
            eprintln!("skipped: this test takes the huge pages of an outer guest");
            return Ok(());
        }
        they_stay(host)?;
        the_guest_ends_when_others_have_what_it_gave_back(host)
    })
}

fn they_stay(host: &Arc<Host>) -> Result<()> {
    let guest = giving_back(host, "keeps", "quota=64M,swap-size=128M")?;
    until("free memory to be refused", REPORTED, || {
        let status = bed::json(&guest, "tmemctl give-back status --json")?;
        let bytes = |name: &str| status.get(name).and_then(serde_json::Value::as_u64);
        ensure!(bytes("given_bytes") == Some(0), "{status}");
        Ok((bytes("refused_bytes") > Some(8 << 20)).then_some(()))
    })?;
    ensure!(pool(host, "HugePages_Free")? == 0);
    let job = large_job(&guest, 1)?;
    ends_right(&guest, job)?;
    guest.power_off()
}

fn the_guest_ends_when_others_have_what_it_gave_back(host: &Arc<Host>) -> Result<()> {
    let tmem = "quota=64M,swap-size=128M,give-back=any";
    let guest = giving_back(host, "gives", tmem)?;
    let free = until("huge pages of the guest's", REPORTED, || {
        let free = pool(host, "HugePages_Free")?;
        Ok((free > PAGES / 4).then_some(free))
    })?;
    // Whatever comes back meanwhile is missing, too.
    set_pool(host, PAGES - free)?;
    // It may not even be started any more.
    let _job = guest.workload(90, 1);
    let said = guest.crashes(NOTICED)?;
    ensure!(
        said.contains("the host has no page"),
        "the VMM says: {said}"
    );
    Ok(())
}

/// A guest in huge pages that gives back what is free.
fn giving_back(host: &Arc<Host>, name: &str, tmem: &str) -> Result<Guest<Vmm>> {
    set_pool(host, PAGES)?;
    ensure!(
        pool(host, "HugePages_Free")? == PAGES,
        "the host has no huge pages"
    );
    let options = VmOptions {
        name: name.into(),
        memory_mib: MEMORY,
        tmem: Some(tmem.into()),
        more: vec!["--hugepages".into()],
        ..VmOptions::default()
    };
    let guest = Guest::launch(&bed::assets()?, host, &options)?;
    guest.load_module()?;
    guest.disk_appears()?;
    guest.run("tmemctl give-back on --free-only --delay 100")?;
    Ok(guest)
}

/// A number of the host's pool.
fn pool(host: &Arc<Host>, name: &str) -> Result<u64> {
    let text = outer(host)?.read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok());
    number.with_context(|| format!("{name} is not in {text}"))
}

fn set_pool(host: &Arc<Host>, pages: u64) -> Result<()> {
    outer(host)?.write("/proc/sys/vm/nr_hugepages", &pages.to_string())
}

fn outer(host: &Arc<Host>) -> Result<&Guest> {
    host.outer().context("there is no outer guest")
}
