// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The lines of the protocol.

use crate::http::Response;
use serde::Deserialize;
use serde::Serialize;

/// Sent once by the agent when it listens.
pub const READY: &str = "tmem-agent ready";

/// A line in the kernel's log, by the program that makes memory short: it waits for the device to go.
pub const SHORTAGE_READY: &str = "ready to make memory short";

/// And another: memory is short.
pub const MEMORY_IS_SHORT: &str = "memory is short";

/// A line from the host.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Chosen by the host; every answer carries it.
    pub id: u64,
    /// What to do.
    pub command: Command,
}

/// What the agent can do.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Command {
    /// Run a program to its end; answered with [`Answer::Ran`].
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// Read a file; answered with [`Answer::Text`].
    Read {
        /// Its path.
        path: String,
    },
    /// Write a file; answered with [`Answer::Done`].
    Write {
        /// Its path.
        path: String,
        /// Its new content.
        text: String,
    },
    /// Start the workload. Answered with [`Answer::Workload`] for each
    /// event and with [`Answer::Exited`] at the end.
    Start(Workload),
    /// Give a running workload an order; answered with [`Answer::Done`].
    Tell {
        /// The id of the request that started it.
        job: u64,
        /// The order.
        order: Order,
    },
    /// Start a program and let it run. Answered with [`Answer::Started`], and
    /// with [`Answer::Exited`] at its end.
    Spawn {
        /// The program and its arguments.
        argv: Vec<String>,
        /// A file that is made anew for all its output.
        output: String,
    },
    /// Signal a program that runs; answered with [`Answer::Done`].
    Signal {
        /// The id of the request that started it.
        job: u64,
        /// The signal's number.
        signal: i32,
    },
    /// Make a request over HTTP; answered with [`Answer::Http`].
    Http {
        /// The unix socket's path.
        socket: String,
        /// As `GET`.
        method: String,
        /// As `/v1/stats`.
        path: String,
        /// The body.
        body: String,
    },
    /// Measure [`crate::first_line::time`]; answered with [`Answer::Took`].
    FirstLine {
        /// The VMM's path.
        vmm: String,
        /// The kernel's.
        kernel: String,
    },
    /// Switch the machine off. Not answered.
    PowerOff,
    /// Reset the machine. Not answered.
    Reset,
}

/// A program that fills memory with known pages and checks them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Memory in MiB.
    pub mib: u64,
    /// Makes the pages of two workloads different.
    pub seed: u64,
    /// From -1000 to 1000; of several programs the kernel first kills the one
    /// with more.
    pub oom_score_adj: i32,
}

/// What a running workload can be told.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Order {
    /// Read and check every page, in order.
    Verify,
    /// Read and check every page in a scattered order, and give every fourth
    /// a new content.
    Churn,
    /// Read and check, in order, what of the pages can be read.
    Salvage,
    /// End.
    End,
}

/// A line from the agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// Of the request.
    pub id: u64,
    /// The outcome.
    pub answer: Answer,
}

/// Outcomes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Answer {
    /// Done, nothing to say.
    Done,
    /// The content of a file.
    Text(String),
    /// A program has ended.
    Ran {
        /// Its exit code; none if a signal ended it.
        code: Option<i32>,
        /// What it wrote to standard output and standard error.
        output: String,
    },
    /// An event of a workload.
    Workload(Event),
    /// A program runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// What a server answered.
    Http(Response),
    /// How long it took.
    Took {
        /// On the guest's clock.
        microseconds: u64,
    },
    /// A workload or another program has ended.
    Exited {
        /// Its exit code; none if a signal ended it.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// It could not be done; a sentence.
    Failed(String),
}

/// What a workload reports.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Event {
    /// Part of an order, or of the first filling, is done.
    Progress {
        /// Pages done.
        pages: u64,
        /// Pages in all.
        of: u64,
    },
    /// All memory is filled.
    Filled(Account),
    /// An order is carried out.
    Checked(Account),
}

/// What a workload counted in one order.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Pages touched.
    pub pages: u64,
    /// Pages whose content was not what it must be.
    pub wrong: u64,
    /// What the first few wrong pages held; sentences.
    pub examples: Vec<String>,
    /// Pages of the machine's that could not be read, when that does not end
    /// the workload.
    pub lost: u64,
    /// Major faults of the process.
    pub major_faults: u64,
    /// Time in milliseconds, on the guest's clock.
    pub milliseconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let request = Request {
            id: 3,
            command: Command::Write {
                path: "/f".into(),
                text: "two\nlines".into(),
            },
        };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
}
