// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Verifying load in a guest.

use crate::guest::Guest;
use crate::guest::Machine;
use crate::link::Link;
use crate::program::Program;
use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tmem_agent::protocol::Answer;
use tmem_agent::protocol::Command;
use tmem_load::report::Event;
use tmem_load::report::Report;

/// The program.
const PROGRAM: &str = "/usr/bin/load";

/// For everything to be read from the disk and compared, on an emulated CPU.
const CHECK: Duration = Duration::from_secs(600);

/// For it to start.
const STARTS: Duration = Duration::from_secs(120);

/// SIGUSR1, which asks for a check, and SIGTERM.
const CHECK_NOW: i32 = 10;
const END: i32 = 15;

/// Makes the names of outputs different.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A running load.
pub struct Load {
    program: Program,
    link: Arc<Link>,
    what: String,
    output: String,
    rounds: u64,
}

impl<M: Machine> Guest<M> {
    /// Starts `load` with these arguments.
    ///
    /// # Errors
    /// It does not start.
    pub fn load(&self, arguments: &str) -> Result<Load> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let output = format!("/run/load-{number}");
        let mut argv = vec![PROGRAM.to_string()];
        argv.extend(arguments.split_whitespace().map(str::to_string));
        let link = Arc::clone(self.link());
        let program = Program::outer("load", &link, argv, output.clone(), || ())?;
        let mut load = Load {
            program,
            link,
            what: format!("load {arguments}"),
            output,
            rounds: 0,
        };
        // A signal before it heeds them would end it.
        until(&load.what.clone(), STARTS, || {
            load.goes_on()?;
            let started = |event: &Event| matches!(event, Event::Started { .. });
            Ok(load.events()?.iter().any(started).then_some(()))
        })?;
        Ok(load)
    }
}

impl Load {
    /// Has it read everything from the disk and compare it; gives back how
    /// many bytes.
    ///
    /// # Errors
    /// Something is wrong, or it has ended.
    pub fn check(&mut self) -> Result<u64> {
        self.checks()?;
        self.checked()
    }

    /// Has it do so, and does not wait for it.
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn checks(&mut self) -> Result<()> {
        self.program.signal(CHECK_NOW)
    }

    /// Waits until everything that [`Load::checks`] asked for is compared;
    /// gives back how many bytes.
    ///
    /// # Errors
    /// Something is wrong, or it has ended.
    pub fn checked(&mut self) -> Result<u64> {
        let wanted = self.rounds + 1;
        let what = format!("a check of {}", self.what);
        let bytes = until(&what, CHECK, || {
            let ended = self.program.ended()?;
            let events = self.events()?;
            let found = events.iter().find_map(|event| match event {
                Event::Checked { round, bytes } if *round == wanted => Some(*bytes),
                _ => None,
            });
            match (found, ended) {
                (None, Some(ended)) => bail!("{}", self.verdict(&events, &format!("{ended:?}"))),
                (found, _) => Ok(found),
            }
        })?;
        self.rounds = wanted;
        Ok(bytes)
    }

    /// Fails if it has ended: only a wrong byte makes it end early.
    ///
    /// # Errors
    /// It has ended.
    pub fn goes_on(&mut self) -> Result<()> {
        match self.program.ended()? {
            None => Ok(()),
            Some(ended) => bail!("{}", self.verdict(&self.events()?, &format!("{ended:?}"))),
        }
    }

    /// Has it compare everything a last time, and end; does not wait for that.
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn ends(&mut self) -> Result<()> {
        self.program.signal(END)
    }

    /// Waits until it has ended; gives back what it did.
    ///
    /// # Errors
    /// Something is wrong.
    pub fn ended(&mut self) -> Result<Report> {
        self.outcome()?.map_err(|wrong| anyhow::anyhow!("{wrong}"))
    }

    /// Waits for its end: what it did, or what was wrong.
    ///
    /// # Errors
    /// It does not end.
    pub fn outcome(&mut self) -> Result<std::result::Result<Report, String>> {
        let ended = self.program.wait(CHECK)?;
        let events = self.events()?;
        Ok(match (events.last(), ended.code) {
            (Some(Event::Done(report)), Some(0)) => Ok(report.clone()),
            _ => Err(self.verdict(&events, &format!("{ended:?}"))),
        })
    }

    /// How far it is.
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn progress(&self) -> Result<Option<Report>> {
        let events = self.events()?;
        Ok(events.into_iter().rev().find_map(|event| match event {
            Event::Progress(report) | Event::Done(report) => Some(report),
            _ => None,
        }))
    }

    fn verdict(&self, events: &[Event], ended: &str) -> String {
        let found = events.iter().find_map(|event| match event {
            Event::Wrong(text) => Some(format!("WRONG BYTES: {text}")),
            Event::Failed(text) => Some(text.clone()),
            _ => None,
        });
        let found = found.unwrap_or_else(|| self.text().unwrap_or_default());
        format!("{} ended ({ended}): {found}", self.what)
    }

    fn text(&self) -> Result<String> {
        let replies = self.link.send(Command::Read {
            path: self.output.clone(),
        })?;
        match replies.next("what the load says", CHECK)? {
            Answer::Text(text) => Ok(text),
            other => bail!("what the load says: {other:?}"),
        }
    }

    fn events(&self) -> Result<Vec<Event>> {
        let text = self.text()?;
        let lines = text.lines().filter(|line| line.starts_with('{'));
        lines
            // The last one may not be whole yet.
            .filter(|line| line.ends_with('}'))
            .map(|line| serde_json::from_str(line).with_context(|| format!("the load says {line}")))
            .collect()
    }
}
