// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Signals that ask for the end, while there is something to put away first.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

/// What signals do. Handlers cannot be taken back without losing the default
/// action, so these stay.
struct Signals {
    /// They have their default action: nothing is to be put away, or the end was asked
    /// for before.
    default_action: Arc<AtomicBool>,
    /// The end was asked for.
    received: Arc<AtomicBool>,
    /// Values of [`Interruptible`] that there are.
    holders: usize,
}

static SIGNALS: Mutex<Option<Signals>> = Mutex::new(None);

fn signals() -> MutexGuard<'static, Option<Signals>> {
    SIGNALS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Signals {
    fn handle() -> Result<Self> {
        let signals = Self {
            default_action: Arc::new(AtomicBool::new(true)),
            received: Arc::default(),
            holders: 0,
        };
        for signal in TERM_SIGNALS.iter().chain(&[SIGHUP]) {
            // In this order: the first signal is noted, the second ends the program.
            flag::register_conditional_default(*signal, signals.default_action.clone())
                .and_then(|_| flag::register(*signal, signals.received.clone()))
                .and_then(|_| flag::register(*signal, signals.default_action.clone()))
                .context("cannot handle signals")?;
        }
        Ok(signals)
    }
}

/// While there is one, the first signal that asks for the end only makes
/// [`Interruptible::check`] fail.
pub(super) struct Interruptible {
    received: Arc<AtomicBool>,
}

impl Interruptible {
    pub(super) fn begin() -> Result<Self> {
        let mut signals = signals();
        let signals = match &mut *signals {
            Some(signals) => signals,
            none => none.insert(Signals::handle()?),
        };
        signals.holders += 1;
        signals.default_action.store(false, SeqCst);
        Ok(Self {
            received: signals.received.clone(),
        })
    }

    /// Fails once the end was asked for.
    pub(super) fn check(&self) -> Result<()> {
        if self.received.load(SeqCst) {
            bail!("interrupted");
        }
        Ok(())
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        if let Some(signals) = &mut *signals() {
            signals.holders -= 1;
            if signals.holders == 0 {
                signals.default_action.store(true, SeqCst);
            }
        }
    }
}
