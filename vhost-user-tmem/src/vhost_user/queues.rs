// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The queues of a connection, and who attends to them.

use std::io;
use std::sync::{Arc, OnceLock, Weak};

use super::backend::Backend;
use super::sharing::Sharing;
use super::vring::Vring;
use crate::attendant::{Attendant, Kick, Ready, Work};
use crate::vm::Memory;

/// Queues that are served until this is dropped.
pub(super) struct Queues(Vec<Arc<Attendant<Queue>>>);

impl Queues {
    /// Serves the queues behind `vrings`, which are in their order.
    ///
    /// # Errors
    /// When the system has no file descriptor or thread to give.
    pub(super) fn serve(backend: &Arc<Backend>, vrings: Vec<Vring<Memory>>) -> io::Result<Self> {
        let (sharing, all) = (Arc::new(Sharing::default()), Arc::new(All::new()));
        let mut queues = Self(Vec::new());
        for (number, vring) in vrings.into_iter().enumerate() {
            let attendant = Attendant::new(Queue {
                backend: backend.clone(),
                number,
                vring: vring.clone(),
                sharing: sharing.clone(),
                all: all.clone(),
            })?;
            queues.0.push(attendant.clone());
            let attendant = Arc::downgrade(&attendant);
            vring.on_change(move || {
                if let Some(attendant) = attendant.upgrade() {
                    attendant.changed();
                }
            });
        }
        // Nobody else sets it.
        let _ = all.set(queues.0.iter().map(Arc::downgrade).collect());
        backend.attach();
        Ok(queues)
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        self.0.iter().for_each(|attendant| attendant.end());
    }
}

/// All queues of a connection, by number, once they are there.
type All = OnceLock<Vec<Weak<Attendant<Queue>>>>;

/// One of them.
struct Queue {
    backend: Arc<Backend>,
    number: usize,
    vring: Vring<Memory>,
    sharing: Arc<Sharing>,
    all: Arc<All>,
}

impl Queue {
    /// Has others look whose kick was taken.
    fn tell_others(&self) {
        for number in self.sharing.others(self.number) {
            let other = self.all.get().and_then(|all| all.get(number));
            if let Some(other) = other.and_then(Weak::upgrade) {
                other.due();
            }
        }
    }
}

impl Work for Queue {
    fn name(&self) -> String {
        format!("queue{}", self.number)
    }

    fn kick(&self) -> Option<Arc<Kick>> {
        self.backend.end_if_in_trouble(self.number, &self.vring);
        // Before it is waited for.
        self.sharing.set(self.number, self.vring.event());
        self.vring.kick()
    }

    fn raised(&self) -> Option<&Kick> {
        self.backend.raised(self.number)
    }

    fn work(&self, ready: Ready) -> bool {
        let taken = || self.tell_others();
        self.backend.work(self.number, &self.vring, ready, taken)
    }
}
