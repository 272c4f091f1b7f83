// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Programs that run on after they were started.

use crate::program::command;
use anyhow::Context;
use anyhow::Result;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tmem_agent::protocol::Answer;

/// Those that run, by the id of the request that started each.
#[derive(Default)]
pub(crate) struct Background {
    running: Mutex<HashMap<u64, Pid>>,
}

impl Background {
    /// Starts a program with all its output in a new file `output`; `started`
    /// hears its process id. Gives back when the program has ended.
    pub(crate) fn run(
        &self,
        id: u64,
        argv: &[String],
        output: &str,
        started: impl FnOnce(u32) -> Result<()>,
    ) -> Result<Answer> {
        let (program, arguments) = argv.split_first().context("no program is named")?;
        let file = File::create(output).with_context(|| format!("cannot make {output}"))?;
        let mut child: Child = command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("cannot share a file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = Pid::from_child(&child);
        self.running().insert(id, pid);
        let told = started(child.id());
        // It keeps its id until nobody here can signal it any more: only then
        // may the kernel give the id to another process.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let waited =
            rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), options));
        self.running().remove(&id);
        waited.with_context(|| format!("{program} is lost"))?;
        let status = child.wait().with_context(|| format!("{program} is lost"))?;
        told?;
        Ok(Answer::Exited {
            code: status.code(),
            signal: status.signal(),
        })
    }

    /// Sends `signal` to the program that the request `id` started.
    pub(crate) fn signal(&self, id: u64, signal: i32) -> Result<Answer> {
        let running = self.running();
        let pid = running
            .get(&id)
            .with_context(|| format!("no program {id} is running"))?;
        let signal = Signal::from_named_raw(signal)
            .with_context(|| format!("there is no signal {signal}"))?;
        rustix::process::kill_process(*pid, signal).context("cannot signal")?;
        Ok(Answer::Done)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_string).collect()
    }

    #[test]
    fn the_exit_code_and_the_output_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out").display().to_string();
        let background = Background::default();
        let argv: Vec<String> = ["sh", "-c", "echo out; echo err >&2; exit 3"]
            .map(Into::into)
            .into();
        let answer = background.run(1, &argv, &output, |_| Ok(())).unwrap();
        assert_eq!(
            answer,
            Answer::Exited {
                code: Some(3),
                signal: None
            }
        );
        assert_eq!(std::fs::read_to_string(output).unwrap(), "out\nerr\n");
        assert!(background.signal(1, 15).is_err(), "it has ended");
    }

    #[test]
    fn a_running_program_can_be_signalled_by_its_id() {
        let background = Background::default();
        let argv = words("sleep 600");
        let answer = background
            .run(7, &argv, "/dev/null", |_| {
                assert!(background.signal(6, 15).is_err());
                background.signal(7, 15).map(|_| ())
            })
            .unwrap();
        assert_eq!(
            answer,
            Answer::Exited {
                code: None,
                signal: Some(15)
            }
        );
    }

    #[test]
    fn what_cannot_be_started_is_an_error() {
        let background = Background::default();
        let run = |argv: &[String], output| background.run(1, argv, output, |_| Ok(()));
        assert!(run(&[], "/dev/null").is_err());
        assert!(run(&words("/no/such/program"), "/dev/null").is_err());
        assert!(run(&words("true"), "/no/such/directory/out").is_err());
    }
}
