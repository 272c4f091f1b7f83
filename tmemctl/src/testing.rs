// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A module for tests.

use std::sync::{Condvar, Mutex};

use rustix::io::Errno;

use crate::disk::Number;
use crate::module::Module;
use crate::uapi::{
    Filter, GivenBack, Kind, ShareUse, SharedTarget, State, Status, Target, VERSION, VerifiedTarget,
};

/// A number as it is written.
pub(crate) fn number(text: &str) -> Number {
    text.parse().unwrap()
}

/// Keeps filters as the module does, and filters nothing.
#[derive(Default)]
pub(crate) struct Fake {
    inner: Mutex<Inner>,
    released: Condvar,
}

#[derive(Default)]
struct Inner {
    filters: Vec<Filter>,
    failures: Vec<(Number, Errno)>,
    is_away: bool,
    is_confidential: bool,
    given_back: GivenBack,
    /// Giving back fails.
    keeps: Option<Errno>,
    /// A filter that detaches only when it is released.
    held: Option<Number>,
}

fn device(target: Target) -> Number {
    Number {
        major: target.major,
        minor: target.minor,
    }
}

impl Fake {
    /// Attaching `device` fails from now on.
    pub(crate) fn fail(&self, device: Number, errno: Errno) {
        self.inner.lock().unwrap().failures.push((device, errno));
    }

    /// The host's device goes away.
    pub(crate) fn leave(&self) {
        self.inner.lock().unwrap().is_away = true;
    }

    /// The machine's memory is encrypted.
    pub(crate) fn encrypt(&self) {
        self.inner.lock().unwrap().is_confidential = true;
    }

    /// Giving memory back fails from now on.
    pub(crate) fn refuse_to_give(&self, errno: Errno) {
        self.inner.lock().unwrap().keeps = Some(errno);
    }

    /// What was given back so far.
    pub(crate) fn gave(&self, given: GivenBack) {
        self.inner.lock().unwrap().given_back = given;
    }

    /// Detaching `device`, which has `pages`, takes until it is released.
    pub(crate) fn hold(&self, device: Number, pages: u64) {
        let mut inner = self.inner.lock().unwrap();
        inner.held = Some(device);
        for filter in &mut inner.filters {
            if Number::of(filter) == device {
                filter.pages = pages;
            }
        }
    }

    fn add(&self, filter: Filter) -> Result<(), Errno> {
        let mut inner = self.inner.lock().unwrap();
        let number = Number::of(&filter);
        if let Some((_, errno)) = inner.failures.iter().find(|(other, _)| *other == number) {
            return Err(*errno);
        }
        let is_there = |other: &Filter| Number::of(other) == number;
        if inner.filters.iter().any(is_there) {
            return Err(Errno::EXIST);
        }
        let state = if inner.is_away {
            State::Waiting
        } else {
            State::Active
        };
        inner.filters.push(Filter {
            state: state as u32,
            ..filter
        });
        Ok(())
    }

    /// Lets what was held be detached.
    pub(crate) fn release(&self) {
        self.inner.lock().unwrap().held = None;
        self.released.notify_all();
    }
}

impl Module for Fake {
    fn attach(&self, target: Target) -> Result<(), Errno> {
        self.add(Filter {
            major: target.major,
            minor: target.minor,
            kind: target.kind,
            ..Filter::default()
        })
    }

    fn attach_shared(&self, target: SharedTarget) -> Result<(), Errno> {
        self.add(Filter {
            major: target.major,
            minor: target.minor,
            kind: Kind::Shared as u32,
            share: target.share,
            share_use: ShareUse::Used as u32,
            ..Filter::default()
        })
    }

    fn attach_verified(&self, target: VerifiedTarget) -> Result<(), Errno> {
        self.add(Filter {
            major: target.shared.major,
            minor: target.shared.minor,
            kind: Kind::Shared as u32,
            share: target.shared.share,
            share_use: ShareUse::Used as u32,
            is_verified: 1,
            ..Filter::default()
        })
    }

    fn detach(&self, target: Target) -> Result<(), Errno> {
        let number = device(target);
        let mut inner = self
            .released
            .wait_while(self.inner.lock().unwrap(), |inner| {
                inner.held == Some(number)
            })
            .unwrap();
        let before = inner.filters.len();
        inner.filters.retain(|filter| Number::of(filter) != number);
        if inner.filters.len() == before {
            return Err(Errno::NOENT);
        }
        Ok(())
    }

    fn filter(&self, position: u32) -> Result<Filter, Errno> {
        let inner = self.inner.lock().unwrap();
        let filter = inner.filters.get(position as usize).ok_or(Errno::NOENT)?;
        Ok(Filter {
            position,
            ..*filter
        })
    }

    fn status(&self) -> Result<Status, Errno> {
        let inner = self.inner.lock().unwrap();
        Ok(Status {
            version: VERSION,
            is_attached: u32::from(!inner.is_away),
            is_confidential: u32::from(inner.is_confidential),
            ..Status::default()
        })
    }

    fn give_back(&self) -> Result<(), Errno> {
        let mut inner = self.inner.lock().unwrap();
        if let Some(errno) = inner.keeps {
            return Err(errno);
        }
        inner.given_back.is_on = 1;
        Ok(())
    }

    fn keep(&self) -> Result<(), Errno> {
        self.inner.lock().unwrap().given_back.is_on = 0;
        Ok(())
    }

    fn given_back(&self) -> Result<GivenBack, Errno> {
        let inner = self.inner.lock().unwrap();
        Ok(GivenBack {
            is_able: u32::from(!inner.is_away),
            ..inner.given_back
        })
    }
}
