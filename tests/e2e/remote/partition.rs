// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A cable is pulled out: some nodes are in a network namespace of their own, and who needs their pages
//! is not.

use super::MEMORY;
use super::PAGES;
use super::pages::Pages;
use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::env;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use tmem_e2e::Cluster;
use tmem_e2e::Place;
use tmem_e2e::until;

/// Set in a process that has a network of its own.
const INSIDE: &str = "TMEM_TEST_PARTITION";

const PROMPT: Duration = Duration::from_secs(60);

/// The ends of the cable, which nobody outside sees.
const HERE: &str = "10.254.9.1";
const THERE: &str = "10.254.9.2";

/// Nodes: those with keys come first, and then their replicas in the same order.
const HAS_REPLICA_HERE: usize = 3;
const REPLICA_HERE: usize = 8;

#[test]
fn a_cable_that_is_pulled_out_costs_no_page() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    if let Err(error) = run(&mut alone(&["ip", "link", "add", "type", "veth"])) {
        println!("skipped: the system gives no network namespace with a cable: {error:#}");
        return Ok(());
    }
    let program = env::current_exe().context("this program has no name")?;
    let name = "remote::partition::a_cable_that_is_pulled_out_costs_no_page";
    let mut command = alone(&[]);
    command.arg(program).args(["--exact", name, "--nocapture"]);
    let status = command.env(INSIDE, "1").status();
    ensure!(
        status.context("cannot start it")?.success(),
        "it has failed"
    );
    Ok(())
}

/// What starts a program in a network of its own.
fn alone(words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--"]).args(words);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.context("cannot start it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.trim());
    Ok(())
}

fn inside() -> Result<()> {
    let cable = Cable::lay()?;
    let (here, there) = (
        Place {
            host: HERE.into(),
            enter: Vec::new(),
        },
        cable.far(),
    );
    let at = |primary: &Place, replica: &Place| [primary.clone(), replica.clone()];
    let pairs = [
        at(&here, &here),
        at(&here, &here),
        at(&here, &here),
        // One that is replaced, and one that is not.
        at(&there, &here),
        at(&there, &there),
    ];
    // Those that are there serve without the others, and whoever comes by way of the cable.
    let options = [
        "--cluster-require-full-coverage",
        "no",
        "--protected-mode",
        "no",
    ];
    let cluster = Cluster::start_at(&bed::assets()?.services, &options, &[], &pairs)?;
    let mut pages = Pages::open(&cluster.url("namespace=cable&size=1G&timeout=600"), MEMORY)?;
    pages.put_new(PAGES)?;
    for nth in 0..pairs.len() {
        ensure!(cluster.keys_of(nth)? > 0, "node {nth} has no pages");
    }
    for round in 0..2 {
        cable.set(false)?;
        thread::scope(|scope| {
            let load = scope.spawn(|| pages.churn(4_000));
            let replaced = until("the others to be given up", PROMPT, || {
                let is_so = cluster.is_primary(REPLICA_HERE)? && cluster.misses_slots(0)?;
                Ok(is_so.then_some(()))
            });
            // Pages that only the other side has are waited for.
            let waits = !load.is_finished();
            cable.set(true)?;
            let load = load
                .join()
                .map_err(|_| anyhow::anyhow!("the load has failed"))?;
            replaced?;
            ensure!(waits, "nobody waited for the other side");
            load
        })?;
        cluster.is_whole()?;
        pages.churn(2_000)?;
        println!("round {round}: {} pages are remote", pages.remote());
    }
    ensure!(!cluster.is_primary(HAS_REPLICA_HERE)?, "it was replaced");
    pages.verify()
}

/// A cable between the network of this process and another one.
struct Cable {
    /// A process that is in the other network.
    far: Child,
}

impl Cable {
    fn lay() -> Result<Self> {
        let far = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn();
        let cable = Self {
            far: far.context("cannot make another network")?,
        };
        let far = cable.far.id().to_string();
        let own = std::fs::read_link("/proc/self/ns/net").context("there are no namespaces")?;
        until("another network", PROMPT, || {
            let its = std::fs::read_link(format!("/proc/{far}/ns/net"));
            Ok(its.is_ok_and(|its| its != own).then_some(()))
        })?;
        for words in [
            &["link", "set", "lo", "up"] as &[_],
            &[
                "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &far,
            ],
            &["address", "add", &format!("{HERE}/24"), "dev", "near"],
            &["link", "set", "near", "up"],
        ] {
            run(Command::new("ip").args(words))?;
        }
        cable.ip_there(&["link", "set", "lo", "up"])?;
        cable.ip_there(&["address", "add", &format!("{THERE}/24"), "dev", "far"])?;
        cable.set(true)?;
        Ok(cable)
    }

    /// Its other end.
    fn far(&self) -> Place {
        let enter = [
            "nsenter",
            "--net",
            "--target",
            &self.far.id().to_string(),
            "--",
        ];
        Place {
            host: THERE.into(),
            enter: enter.map(str::to_owned).to_vec(),
        }
    }

    fn ip_there(&self, words: &[&str]) -> Result<()> {
        let Place { enter, .. } = self.far();
        let (program, first) = enter.split_first().context("it is here")?;
        run(Command::new(program).args(first).arg("ip").args(words))
    }

    /// Puts it in, or pulls it out at the other end: here nothing is to be seen of it but that nobody
    /// answers.
    fn set(&self, is_in: bool) -> Result<()> {
        self.ip_there(&["link", "set", "far", if is_in { "up" } else { "down" }])
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.far.kill();
        let _ = self.far.wait();
    }
}
