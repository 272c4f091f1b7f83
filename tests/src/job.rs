// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A workload that runs in a guest.

use crate::link::Link;
use crate::link::Replies;
use anyhow::Result;
use anyhow::bail;
use std::sync::Arc;
use std::time::Duration;
use tmem_agent::protocol::Account;
use tmem_agent::protocol::Answer;
use tmem_agent::protocol::Command;
use tmem_agent::protocol::Event;
use tmem_agent::protocol::Order;
use tmem_agent::protocol::Workload;

/// Between two reports of progress, on an emulated CPU that shares a busy
/// machine.
const STALL: Duration = Duration::from_secs(900);

/// For an order to reach it.
const TOLD: Duration = Duration::from_secs(60);

/// A running workload.
pub struct Job {
    link: Arc<Link>,
    replies: Replies,
    progress: Box<dyn FnMut(u64, u64) + Send>,
}

/// How a workload ended before it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Job {
    pub(crate) fn start(link: Arc<Link>, workload: Workload) -> Result<Self> {
        Ok(Self {
            replies: link.send(Command::Start(workload))?,
            link,
            progress: Box::new(|_, _| ()),
        })
    }

    /// Has `report` called with pages done and pages in all, now and then.
    #[must_use]
    pub fn with_progress(mut self, report: impl FnMut(u64, u64) + Send + 'static) -> Self {
        self.progress = Box::new(report);
        self
    }

    /// Waits until the memory is filled.
    ///
    /// # Errors
    /// It ended before, or makes no progress.
    pub fn filled(&mut self) -> Result<Account> {
        match self.outcome()? {
            Ok(account) => Ok(account),
            Err(ended) => bail!("the workload ended while it filled memory: {ended:?}"),
        }
    }

    /// Gives an order without waiting for it to be carried out.
    ///
    /// # Errors
    /// It has ended.
    pub fn tell(&self, order: Order) -> Result<()> {
        let job = self.replies.id;
        let told = self.link.send(Command::Tell { job, order })?;
        told.next("telling the workload", TOLD)?;
        Ok(())
    }

    /// Waits until an order is carried out, and fails on any wrong page.
    ///
    /// # Errors
    /// A page is wrong, it ended, or makes no progress.
    pub fn checked(&mut self) -> Result<Account> {
        let account = match self.account()? {
            Ok(account) => account,
            Err(ended) => bail!("the workload ended while it checked memory: {ended:?}"),
        };
        if account.wrong > 0 {
            bail!(
                "{} of {} pages are wrong:\n{}",
                account.wrong,
                account.pages,
                account.examples.join("\n")
            );
        }
        Ok(account)
    }

    /// Waits until the filling, or an order, is carried out, or the workload
    /// has ended.
    ///
    /// # Errors
    /// It makes no progress.
    pub fn outcome(&mut self) -> Result<std::result::Result<Account, Ended>> {
        self.account()
    }

    /// Gives an order and waits until it is carried out.
    ///
    /// # Errors
    /// As [`Job::checked`].
    pub fn order(&mut self, order: Order) -> Result<Account> {
        self.tell(order)?;
        self.checked()
    }

    /// Ends it: its memory is free afterwards.
    ///
    /// # Errors
    /// It does not end well.
    pub fn end(mut self) -> Result<()> {
        self.tell(Order::End)?;
        match self.account()? {
            Err(Ended { code: Some(0), .. }) => Ok(()),
            other => bail!("the workload did not end: {other:?}"),
        }
    }

    /// Waits until the workload has made progress.
    ///
    /// # Errors
    /// It ended, or makes none.
    pub fn moves(&mut self) -> Result<()> {
        match self.replies.next("the workload", STALL)? {
            Answer::Workload(Event::Progress { .. }) => Ok(()),
            other => bail!("the workload made no progress but said {other:?}"),
        }
    }

    fn account(&mut self) -> Result<std::result::Result<Account, Ended>> {
        loop {
            match self.replies.next("the workload", STALL)? {
                Answer::Workload(Event::Progress { pages, of }) => (self.progress)(pages, of),
                Answer::Workload(Event::Filled(account) | Event::Checked(account)) => {
                    return Ok(Ok(account));
                }
                Answer::Exited { code, signal } => return Ok(Err(Ended { code, signal })),
                other => bail!("the workload said {other:?}"),
            }
        }
    }
}
