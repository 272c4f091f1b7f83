// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Process 1 of a guest that is measured: does what the host says over a terminal.

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::system::RebootCommand;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use tmem_probe::clock::Clock;
use tmem_probe::order::{Answer, Order};
use tmem_probe::pages::{self, Content};
use tmem_probe::{files, setup};

/// Names the terminal on the kernel's command line.
const TERMINAL: &str = "TMEM_TERMINAL";

/// Files that may be open at a time.
const FILES: u64 = 1 << 16;

fn main() {
    if let Err(error) = serve() {
        // To the console.
        eprintln!("probe: {error:#}");
    }
    // Without process 1 a kernel panics, which is an end, too.
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
}

fn serve() -> Result<()> {
    setup::mount_all()?;
    have_files_open()?;
    let mut terminal = open()?;
    let orders = BufReader::new(terminal.try_clone().context("the terminal is lost")?);
    let mut guest = Guest {
        clock: Clock::new(),
        content: None,
    };
    // Somebody waits for it.
    answer(&mut terminal, &Answer::default())?;
    for line in orders.lines() {
        let order = serde_json::from_str(&line.context("the terminal is lost")?);
        let outcome = match order {
            Ok(Order::Off) => return answer(&mut terminal, &Answer::default()),
            Ok(order) => guest.follow(&order),
            Err(error) => Err(error).context("no order"),
        };
        let said = outcome.unwrap_or_else(|error| Answer {
            error: Some(format!("{error:#}")),
            ..Answer::default()
        });
        answer(&mut terminal, &said)?;
    }
    Ok(())
}

/// All files of a disk are open when pieces of them are read.
fn have_files_open() -> Result<()> {
    let limit = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, limit).context("too few files may be open")
}

fn answer(terminal: &mut File, answer: &Answer) -> Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    terminal.write_all(&line).context("the terminal is lost")
}

/// The terminal to the host, which takes and gives every byte as it is.
fn open() -> Result<File> {
    let path = std::env::var(TERMINAL).context("no terminal was named")?;
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {path}"))?;
    let mut modes = tcgetattr(&terminal).context("no terminal")?;
    modes.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &modes).context("no terminal")?;
    Ok(terminal)
}

struct Guest {
    clock: Clock,
    content: Option<Content>,
}

impl Guest {
    fn follow(&mut self, order: &Order) -> Result<Answer> {
        let nothing = Answer::default();
        let said = |said| Answer {
            said,
            ..Answer::default()
        };
        let clock = &self.clock;
        match order {
            Order::Content { from, pages } => {
                self.content = Some(Content::read(from, *pages)?);
                Ok(nothing)
            }
            Order::Insert {
                module,
                parameters,
                device,
            } => setup::insert(module, parameters, device.as_deref()).map(|()| nothing),
            Order::Zram { mib } => setup::zram(*mib).map(|()| nothing),
            Order::SlowDisk {
                name,
                mib,
                nanoseconds,
            } => setup::slow_disk(name, *mib, *nanoseconds).map(|()| nothing),
            Order::Copy { from, to } => setup::copy(from, to).map(|()| nothing),
            Order::Mount { disk, at } => setup::mount_files(disk, at).map(|()| nothing),
            Order::Run { words } => setup::run(words).map(said),
            Order::Show { file } => setup::show(file).map(said),
            Order::Write(wanted) => pages::write(wanted, self.content()?, clock),
            Order::Read(wanted) => pages::read(wanted, self.content()?, clock),
            Order::ReadFiles {
                top,
                piece,
                random,
                seed,
            } => {
                setup::join_readers()?;
                match random {
                    0 => files::read_all(top, *piece, *seed, clock),
                    count => files::read_random(top, *piece, *count, *seed, clock),
                }
            }
            Order::ListFiles { top } => {
                setup::join_readers()?;
                files::list(top).map(|()| nothing)
            }
            Order::Evict => setup::evict().map(|()| nothing),
            Order::Off => Ok(nothing),
        }
    }

    fn content(&self) -> Result<&Content> {
        self.content.as_ref().context("there is no content yet")
    }
}
