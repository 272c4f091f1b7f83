// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests in, replies out. Every request has a thread of its own, so that
//! one that hangs in the kernel holds up no other.

use crate::background::Background;
use crate::program::command;
use crate::root;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::system::RebootCommand;
use rustix::termios::OptionalActions;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tmem_agent::first_line;
use tmem_agent::http;
use tmem_agent::protocol::Answer;
use tmem_agent::protocol::Command;
use tmem_agent::protocol::Event;
use tmem_agent::protocol::Order;
use tmem_agent::protocol::READY;
use tmem_agent::protocol::Reply;
use tmem_agent::protocol::Request;
use tmem_agent::protocol::Workload;

/// This program under the name that the kernel's messages should show.
const WORKLOAD: &str = "/usr/bin/workload";

/// Stacks are locked in memory, so they are small.
const STACK: usize = 128 * 1024;

/// What the threads share.
struct Shared {
    port: Mutex<File>,
    /// The input of each running workload, by the id that started it.
    jobs: Mutex<HashMap<u64, ChildStdin>>,
    background: Background,
}

/// Serves the host at `port` until it is closed.
pub(crate) fn serve(port: &Path) -> Result<()> {
    let open = || {
        File::options()
            .read(true)
            .write(true)
            .open(port)
            .with_context(|| format!("cannot open {}", port.display()))
    };
    let input = open()?;
    let mut mode = rustix::termios::tcgetattr(&input).context("the port is no terminal")?;
    mode.make_raw();
    rustix::termios::tcsetattr(&input, OptionalActions::Now, &mode)
        .context("cannot make the port raw")?;
    let shared = Arc::new(Shared {
        port: Mutex::new(open()?),
        jobs: Mutex::new(HashMap::new()),
        background: Background::default(),
    });
    // On a line of its own, even if the port's last user died in one.
    shared.line(&format!("\n{READY}"))?;
    for line in BufReader::new(input).lines() {
        let line = line.context("cannot read from the host")?;
        let request: Request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                // Nobody to answer to: the console log has it.
                eprintln!("tmem-agent: no request: {line}: {error}");
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                let id = request.id;
                let answer = shared
                    .run(request)
                    .unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
                if let Err(error) = shared.reply(id, answer) {
                    eprintln!("tmem-agent: {error:#}");
                }
            })
            .context("cannot start a thread")?;
    }
    bail!("the host has closed the port")
}

impl Shared {
    fn run(&self, request: Request) -> Result<Answer> {
        match request.command {
            Command::Run { argv } => run(&argv),
            Command::Read { path } => {
                let bytes = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
                Ok(Answer::Text(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Command::Write { path, text } => {
                std::fs::write(&path, text).with_context(|| format!("cannot write {path}"))?;
                Ok(Answer::Done)
            }
            Command::Start(workload) => self.work(request.id, &workload),
            Command::Tell { job, order } => self.tell(job, order),
            Command::Spawn { argv, output } => {
                let started = |pid| self.reply(request.id, Answer::Started { pid });
                self.background.run(request.id, &argv, &output, started)
            }
            Command::Signal { job, signal } => self.background.signal(job, signal),
            Command::Http {
                socket,
                method,
                path,
                body,
            } => {
                let response = http::request(Path::new(&socket), &method, &path, &body)?;
                Ok(Answer::Http(response))
            }
            Command::FirstLine { vmm, kernel } => {
                let time = first_line::time(Path::new(&vmm), Path::new(&kernel))?;
                Ok(Answer::Took {
                    microseconds: u64::try_from(time.as_micros())?,
                })
            }
            Command::PowerOff => {
                root::settle()?;
                rustix::system::reboot(RebootCommand::PowerOff).context("cannot switch off")?;
                Ok(Answer::Done)
            }
            Command::Reset => {
                root::settle()?;
                rustix::system::reboot(RebootCommand::Restart).context("cannot reset")?;
                Ok(Answer::Done)
            }
        }
    }

    fn work(&self, id: u64, workload: &Workload) -> Result<Answer> {
        let mut child: Child = std::process::Command::new(WORKLOAD)
            .arg("workload")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the workload")?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the workload has no pipes");
        };
        writeln!(input, "{}", serde_json::to_string(workload)?)
            .context("the workload does not listen")?;
        self.jobs().insert(id, input);
        for line in BufReader::new(output).lines() {
            let event: Event = serde_json::from_str(&line.context("the workload is gone")?)
                .context("the workload does not report")?;
            self.reply(id, Answer::Workload(event))?;
        }
        self.jobs().remove(&id);
        let status = child.wait().context("the workload is lost")?;
        Ok(Answer::Exited {
            code: status.code(),
            signal: status.signal(),
        })
    }

    fn tell(&self, job: u64, order: Order) -> Result<Answer> {
        let mut jobs = self.jobs();
        let input = jobs
            .get_mut(&job)
            .with_context(|| format!("no workload {job} is running"))?;
        writeln!(input, "{}", serde_json::to_string(&order)?)
            .context("the workload does not listen")?;
        Ok(Answer::Done)
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, HashMap<u64, ChildStdin>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, id: u64, answer: Answer) -> Result<()> {
        self.line(&serde_json::to_string(&Reply { id, answer })?)
    }

    fn line(&self, line: &str) -> Result<()> {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(format!("{line}\n").as_bytes())
            .context("cannot write to the host")
    }
}

fn run(argv: &[String]) -> Result<Answer> {
    let (program, arguments) = argv.split_first().context("no program is named")?;
    let output = command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Answer::Ran {
        code: output.status.code(),
        output: text,
    })
}
