// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The program that needs more memory than there is: fills it with known
//! pages, then reads and checks them on order.

use crate::pages::Corpus;
use crate::pages::PAGE_SIZE;
use crate::pages::Page;
use crate::pages::PageName;
use crate::pages::describe;
use crate::pages::mix;
use crate::protocol::Account;
use crate::protocol::Event;
use crate::protocol::Order;
use crate::protocol::Workload;
use anyhow::Context;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Progress is reported this many times in an order.
const REPORTS: u64 = 20;

/// Wrong pages that are described.
const EXAMPLES: usize = 5;

/// The kernel's number for "input/output error".
const EIO: i32 = 5;

/// Pages that are allocated at once, 8 MiB: room for huge pages, and little
/// enough for a kernel that refuses a single request beyond all memory.
const CHUNK: usize = 2048;

/// A filled memory.
pub struct Memory<'a> {
    corpus: &'a Corpus,
    seed: u64,
    chunks: Vec<Vec<Page>>,
    /// How often each page got a new content.
    generations: Vec<u8>,
}

impl<'a> Memory<'a> {
    /// What it takes beside the pages.
    ///
    /// # Errors
    /// There are too many pages.
    pub fn new(corpus: &'a Corpus, workload: &Workload) -> Result<Self> {
        let count = workload.mib * ((1 << 20) / PAGE_SIZE as u64);
        let count = usize::try_from(count).context("too much memory")?;
        Ok(Self {
            corpus,
            seed: workload.seed,
            chunks: Vec::with_capacity(count.div_ceil(CHUNK)),
            generations: vec![0; count],
        })
    }

    /// Fills the pages; calls `report` with the events on the way.
    ///
    /// # Errors
    /// The real content cannot be read, or a report cannot be made.
    pub fn fill(&mut self, report: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let of = self.generations.len() as u64;
        let watch = Watch::start()?;
        let mut page = [0; PAGE_SIZE];
        for number in 0..of {
            let name = self.name(number, 0);
            self.corpus.make(name, &mut page)?;
            self.push(page);
            progress(number + 1, of, report)?;
        }
        report(Event::Filled(watch.stop(of, Account::default())?))
    }

    /// Carries out `order`.
    ///
    /// # Errors
    /// As [`Memory::fill`].
    pub fn obey(
        &mut self,
        order: Order,
        report: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        let of = self.generations.len() as u64;
        let watch = Watch::start()?;
        let mut account = Account::default();
        let mut expected = [0; PAGE_SIZE];
        let mut salvage = (order == Order::Salvage).then(Salvage::start).transpose()?;
        for turn in 0..of {
            let number = match order {
                Order::Churn => scattered(turn, of),
                Order::Verify | Order::Salvage | Order::End => turn,
            };
            let at = usize::try_from(number)?;
            let chunk = self.chunks.get_mut(at / CHUNK);
            let page = chunk.and_then(|chunk| chunk.get_mut(at % CHUNK));
            let (Some(page), Some(generation)) = (page, self.generations.get_mut(at)) else {
                continue;
            };
            let name = |generation: u8| PageName {
                seed: self.seed,
                number,
                generation: generation.into(),
            };
            self.corpus.make(name(*generation), &mut expected)?;
            let found = match &mut salvage {
                Some(salvage) => salvage.read(page, &expected)?,
                None => page,
            };
            if *found != expected {
                account.wrong += 1;
                if account.examples.len() < EXAMPLES {
                    let example = describe(name(*generation), found, &expected);
                    account.examples.push(example);
                }
            }
            if order == Order::Churn && mix(number ^ u64::from(*generation)).is_multiple_of(4) {
                *generation = generation.wrapping_add(1);
                self.corpus.make(name(*generation), page)?;
            }
            progress(turn + 1, of, report)?;
        }
        account.lost = salvage.map_or(0, |salvage| salvage.lost.len() as u64);
        report(Event::Checked(watch.stop(of, account)?))
    }

    fn push(&mut self, page: Page) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(page),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(page);
                self.chunks.push(chunk);
            }
        }
    }

    fn name(&self, number: u64, generation: u64) -> PageName {
        PageName {
            seed: self.seed,
            number,
            generation,
        }
    }
}

/// The page of this turn: runs of pages in a scattered order, as programs that
/// use their memory here and there do. Every page comes once, if `of` is a
/// multiple of a run.
fn scattered(turn: u64, of: u64) -> u64 {
    /// Pages in a run.
    const RUN: u64 = 16;
    /// A prime larger than any number of runs, so that no run comes twice.
    const STEP: u64 = 1_000_000_007;
    let runs = (of / RUN).max(1);
    (turn / RUN).wrapping_mul(STEP) % runs * RUN + turn % RUN
}

fn progress(done: u64, of: u64, report: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
    let part = (of / REPORTS).max(1);
    if done.is_multiple_of(part) {
        report(Event::Progress { pages: done, of })?;
    }
    Ok(())
}

/// Reads the memory of this process without ending it for what can't be read.
struct Salvage {
    memory: File,
    copy: Page,
    /// The machine's pages, by their numbers, that can't be read.
    lost: BTreeSet<usize>,
}

impl Salvage {
    fn start() -> Result<Self> {
        Ok(Self {
            memory: File::open("/proc/self/mem").context("cannot open its own memory")?,
            copy: [0; PAGE_SIZE],
            lost: BTreeSet::new(),
        })
    }

    /// What is in `page`; what of it can't be read is as in `expected`.
    fn read(&mut self, page: &Page, expected: &Page) -> Result<&Page> {
        self.copy = *expected;
        let start = page.as_ptr().addr();
        // It is in two of the machine's pages, unless it begins with one.
        let (front, back) = self.copy.split_at_mut(PAGE_SIZE - start % PAGE_SIZE);
        let middle = start + front.len();
        for (part, at) in [(front, start), (back, middle)] {
            match self.memory.read_exact_at(part, at as u64) {
                Ok(()) => (),
                Err(error) if error.raw_os_error() == Some(EIO) => {
                    self.lost.insert(at / PAGE_SIZE);
                }
                Err(error) => return Err(error).context("cannot read its own memory"),
            }
        }
        Ok(&self.copy)
    }
}

/// Time and major faults since a moment.
struct Watch {
    start: Instant,
    major_faults: u64,
}

impl Watch {
    fn start() -> Result<Self> {
        Ok(Self {
            start: Instant::now(),
            major_faults: major_faults()?,
        })
    }

    fn stop(&self, pages: u64, account: Account) -> Result<Account> {
        let milliseconds = self.start.elapsed().as_millis();
        Ok(Account {
            pages,
            major_faults: major_faults()? - self.major_faults,
            milliseconds: u64::try_from(milliseconds).unwrap_or(u64::MAX),
            ..account
        })
    }
}

/// Major faults of this process so far: field 12 of `/proc/self/stat`.
fn major_faults() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // Field 2, the program's name, is in parentheses and may hold blanks.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields
        .split_whitespace()
        .nth(9)
        .and_then(|field| field.parse().ok())
        .context("/proc/self/stat has no major faults")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn filled(mib: u64, corpus: &Corpus) -> Memory<'_> {
        let workload = Workload {
            mib,
            seed: 1,
            oom_score_adj: 0,
        };
        let mut memory = Memory::new(corpus, &workload).unwrap();
        memory.fill(&mut |_| Ok(())).unwrap();
        memory
    }

    fn last(memory: &mut Memory<'_>, order: Order) -> Account {
        let mut account = None;
        memory
            .obey(order, &mut |event| {
                if let Event::Checked(found) = event {
                    account = Some(found);
                }
                Ok(())
            })
            .unwrap();
        account.unwrap()
    }

    fn corpus() -> Corpus {
        // Programs of this machine: what a guest has, too.
        Corpus::open(Path::new("/usr/lib/x86_64-linux-gnu/gconv"))
            .or_else(|_| Corpus::open(Path::new("/usr/bin")))
            .unwrap()
    }

    #[test]
    fn untouched_memory_is_right_and_a_flipped_bit_is_wrong() {
        let corpus = corpus();
        let mut memory = filled(10, &corpus);
        assert_eq!(last(&mut memory, Order::Verify).wrong, 0);
        memory.chunks[0][17][2000] ^= 1;
        let account = last(&mut memory, Order::Verify);
        assert_eq!((account.pages, account.wrong), (2560, 1));
        assert!(account.examples[0].contains("number: 17"));
    }

    #[test]
    fn salvage_finds_what_is_wrong_and_loses_nothing_that_is_there() {
        let corpus = corpus();
        let mut memory = filled(2, &corpus);
        let account = last(&mut memory, Order::Salvage);
        assert_eq!((account.pages, account.wrong, account.lost), (512, 0, 0));
        memory.chunks[0][17][4095] ^= 1;
        let account = last(&mut memory, Order::Salvage);
        assert_eq!((account.wrong, account.lost), (1, 0));
    }

    #[test]
    fn churn_visits_every_page_and_renews_some() {
        let corpus = corpus();
        let mut memory = filled(2, &corpus);
        memory.chunks[0][17][2000] ^= 1;
        assert_eq!(last(&mut memory, Order::Churn).wrong, 1);
        let renewed = memory.generations.iter().filter(|g| **g > 0).count();
        assert!((64..256).contains(&renewed), "{renewed} of 512 renewed");
        memory.chunks[0][17][2000] ^= 1;
        assert_eq!(last(&mut memory, Order::Verify).wrong, 0);
    }

    #[test]
    fn a_scattered_order_visits_every_page_once() {
        let of = 3 * 256;
        let mut pages: Vec<u64> = (0..of).map(|turn| scattered(turn, of)).collect();
        assert_ne!(pages, (0..of).collect::<Vec<_>>());
        pages.sort_unstable();
        assert_eq!(pages, (0..of).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_left_from_an_older_generation_is_wrong() {
        let corpus = corpus();
        let mut memory = filled(2, &corpus);
        let old = memory.chunks.clone();
        last(&mut memory, Order::Churn);
        let renewed = memory.generations.iter().filter(|g| **g > 0).count() as u64;
        memory.chunks = old;
        assert_eq!(last(&mut memory, Order::Verify).wrong, renewed);
    }
}
