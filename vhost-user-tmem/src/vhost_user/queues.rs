// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The queues of a connection, and who attends to them.

use std::io;
use std::sync::Arc;

use super::backend::Backend;
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
        let mut all = Self(Vec::new());
        for (number, vring) in vrings.into_iter().enumerate() {
            let attendant = Attendant::new(Queue {
                backend: backend.clone(),
                number,
                vring: vring.clone(),
            })?;
            all.0.push(attendant.clone());
            let attendant = Arc::downgrade(&attendant);
            vring.on_change(move || {
                if let Some(attendant) = attendant.upgrade() {
                    attendant.changed();
                }
            });
        }
        backend.attach();
        Ok(all)
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        self.0.iter().for_each(|attendant| attendant.end());
    }
}

/// One of them.
struct Queue {
    backend: Arc<Backend>,
    number: usize,
    vring: Vring<Memory>,
}

impl Work for Queue {
    fn name(&self) -> String {
        format!("queue{}", self.number)
    }

    fn kick(&self) -> Option<Arc<Kick>> {
        self.backend.end_if_in_trouble(self.number, &self.vring);
        self.vring.kick()
    }

    fn raised(&self) -> Option<&Kick> {
        self.backend.raised(self.number)
    }

    fn work(&self, ready: Ready) -> bool {
        self.backend.work(self.number, &self.vring, ready)
    }
}
