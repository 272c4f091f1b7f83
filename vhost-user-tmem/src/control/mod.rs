// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket: metrics and settings at run time, over HTTP/1.1.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | every counter, as Prometheus text |
//! | `GET /v1/stats` | the same as JSON, with the derived metrics |
//! | `PUT /v1/vms/NAME` with `{"quota": BYTES}` | sets the VM's quota; its driver is told |

mod metrics;
mod routes;
mod stats;

use std::sync::Arc;

use tmem_cli::socket::Socket;
use tmem_host::http;
use tmem_store::Store;

use crate::stop::Stop;
use crate::vm::Vm;

/// What the control socket shows and changes.
#[derive(Debug)]
pub struct Control {
    /// The store behind all VMs.
    pub store: Store,
    /// All VMs.
    pub vms: Vec<Arc<Vm>>,
}

impl Control {
    /// Serves one client after the other until the daemon stops.
    pub fn serve(&self, socket: &Socket, stop: &Stop) {
        http::serve(socket.listener(), stop, |request| {
            routes::answer(self, request)
        });
    }
}
