// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The state of a device, which its front end has saved and loaded (vhost-user,
//! VHOST_USER_PROTOCOL_F_DEVICE_STATE): the image of the machine's pages, by a thread of its own.

use std::io::{BufReader, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

use tmem_host::image::{Channel, Totals, machine};
use tmem_host::registry::{Disk, Refusal};

use crate::trace::Trace;
use crate::vm::Vm;
use crate::{blame, faults};

/// Bytes that are moved at a time.
const PIECE: usize = 64 << 10;

/// How long a front end that asks how it went may wait for the rest.
const REST: Duration = Duration::from_secs(30);

/// What is being transferred. Dropping it has that end, and waits for it.
#[derive(Debug)]
pub(super) struct Transfer {
    outcome: Receiver<Result<(), String>>,
    signs: Arc<Signs>,
}

/// What the thread is told.
#[derive(Debug, Default)]
struct Signs {
    /// Nobody wants it any more.
    is_over: AtomicBool,
    /// The front end has done its part: nothing is waited for any more.
    is_through: AtomicBool,
}

type Outcome = Result<(), String>;

impl Transfer {
    /// Saves the machine to `end`.
    ///
    /// # Errors
    /// A sentence, when it has not begun.
    pub(super) fn save(vm: &Arc<Vm>, end: OwnedFd) -> Result<Self, String> {
        Self::begin(vm, end, "saved", |vm, channel, _| {
            let mut to = BufWriter::with_capacity(PIECE, channel);
            let saved = machine::save(&mut to, vm.name(), Disk::NOT_ONE, &**vm.device(), || {
                vm.stands_still()
            })?;
            let saved = saved.filter(|_| to.flush().is_ok());
            saved.ok_or_else(|| Refusal::Failed("nobody reads it".into()))
        })
    }

    /// Has the machine have what comes from `end`, and `keep` know how its driver was left.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub(super) fn load(
        vm: &Arc<Vm>,
        end: OwnedFd,
        keep: impl FnOnce(Trace) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Self, String> {
        Self::begin(vm, end, "restored", |vm, channel, goes_on| {
            let from = BufReader::with_capacity(PIECE, channel);
            let client = vm.device().client();
            machine::restore(
                from,
                vm.name(),
                Disk::NOT_ONE,
                client,
                |instance, driver, fill| vm.load(instance, driver, goes_on, fill, keep),
            )
        })
    }

    fn begin(
        vm: &Arc<Vm>,
        end: OwnedFd,
        done: &'static str,
        work: impl FnOnce(&Vm, Channel<&dyn Fn() -> bool>, &dyn Fn() -> bool) -> Result<Totals, Refusal>
        + Send
        + 'static,
    ) -> Result<Self, String> {
        let workers = vm
            .workers()
            .ok_or("the state of a device cannot be saved")?;
        let (tell, outcome): (Sender<Outcome>, _) = channel();
        let signs = Arc::new(Signs::default());
        let (vm, told) = (vm.clone(), signs.clone());
        workers.begin(move |is_over| {
            // What comes is hostile input.
            blame::take(vm.note().as_ref());
            faults::at("image", vm.name());
            let goes_on = || !is_over.load(SeqCst) && !told.is_over.load(SeqCst);
            let waits = || goes_on() && !told.is_through.load(SeqCst);
            let channel = Channel::new(end, &waits as &dyn Fn() -> bool).map_err(|error| {
                Refusal::Invalid(format!("cannot use what was handed over: {error}"))
            });
            let worked = channel.and_then(|channel| work(&vm, channel, &goes_on));
            let name = vm.name();
            vm.say(|| match &worked {
                Ok(totals) => {
                    let Totals {
                        pages,
                        bytes,
                        missing,
                    } = totals;
                    log::info!(
                        "{name}: {done} for its front end: {pages} pages in {bytes} bytes, {missing} missing"
                    );
                }
                Err(why) => {
                    log::warn!("{name}: is not {done} for its front end: {}", why.reason());
                }
            });
            let outcome = worked.map(|_| ());
            // Nobody may want to know.
            let _ = tell.send(outcome.map_err(|refusal| refusal.reason().to_owned()));
        })?;
        Ok(Self { outcome, signs })
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        // Who asks for another has lost what this has come to.
        !matches!(self.outcome.try_recv(), Err(TryRecvError::Empty))
    }

    /// What has come of it. The front end has closed its end.
    ///
    /// # Errors
    /// A sentence about what failed.
    pub(super) fn outcome(self) -> Outcome {
        self.signs.is_through.store(true, SeqCst);
        match self.outcome.recv_timeout(REST) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err("it takes too long".into()),
            Err(RecvTimeoutError::Disconnected) => Err("the program ends".into()),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.signs.is_over.store(true, SeqCst);
        // An outcome, or that there will be none.
        let _ = self.outcome.recv();
    }
}
