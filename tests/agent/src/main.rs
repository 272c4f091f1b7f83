// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The agent: process 1 of a test guest, or a service in a larger one. Takes
//! requests from the second serial port and answers there.

mod background;
mod init;
mod program;
mod root;
mod serve;
mod shortage;

use anyhow::Context;
use anyhow::Result;
use std::io::Write;
use std::path::Path;
use tmem_agent::pages::Corpus;
use tmem_agent::protocol::Event;
use tmem_agent::protocol::Order;
use tmem_agent::protocol::Workload;
use tmem_agent::workload::Memory;

/// The serial port to the host, unless `agent_port=` on the kernel's command line names
/// another one: what the kernel does not know is in the environment of process 1.
const PORT: &str = "/dev/ttyS1";
const PORT_VARIABLE: &str = "agent_port";

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("workload") => return workload(),
        Some("shortage") => return shortage::make(),
        _ => (),
    }
    if rustix::process::getpid().is_init() {
        init::prepare()?;
    }
    init::stay_in_memory();
    let port = std::env::var_os(PORT_VARIABLE).unwrap_or_else(|| PORT.into());
    serve::serve(Path::new(&port))
}

/// The child that fills memory: first line of its input is the [`Workload`],
/// each other an [`Order`]; each line of its output is [`Event`].
fn workload() -> Result<()> {
    let mut lines = std::io::stdin().lines();
    let mut next = || -> Result<Option<String>> { Ok(lines.next().transpose()?) };
    let mut report = |event: Event| -> Result<()> {
        let mut line = serde_json::to_string(&event)?;
        line.push('\n');
        std::io::stdout().write_all(line.as_bytes())?;
        Ok(())
    };
    let line = next()?.context("the workload was told nothing")?;
    let workload: Workload = serde_json::from_str(&line)?;
    // The agent, from which this is inherited, hides from the OOM killer.
    std::fs::write(
        "/proc/self/oom_score_adj",
        workload.oom_score_adj.to_string(),
    )
    .context("cannot offer itself to the OOM killer")?;
    let corpus = Corpus::open(Path::new("/usr/lib"))?;
    let mut memory = Memory::new(&corpus, &workload)?;
    // What is swapped, and perhaps lost, is the memory that it fills, and little
    // else.
    init::lock_what_is_there();
    memory.fill(&mut report)?;
    while let Some(line) = next()? {
        match serde_json::from_str(&line)? {
            Order::End => break,
            order => memory.obey(order, &mut report)?,
        }
    }
    Ok(())
}
