// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket: metrics and settings at run time, over HTTP/1.1.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | every counter, as Prometheus text |
//! | `GET /v1/stats` | the same as JSON, with the derived figures |
//! | `PUT /v1/vms/NAME` with `{"quota": BYTES}` | sets the VM's quota; its driver is told |

mod figures;
mod http;
mod metrics;
mod routes;
mod stats;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tmem_store::Store;

use crate::socket::Socket;
use crate::stop::Stop;
use crate::vm::Vm;

/// How long a client may take to send its request or to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

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
        while !stop.is_asked() {
            let mut fds = [
                PollFd::new(socket, PollFlags::IN),
                PollFd::new(stop, PollFlags::IN),
            ];
            let ready = poll(&mut fds, None);
            if ready.is_err() || stop.is_asked() {
                continue;
            }
            match socket.listener().accept() {
                Ok((stream, _)) => self.answer(stream),
                Err(error) => {
                    log::warn!("cannot accept a control connection: {error}");
                    stop.wait(PATIENCE);
                }
            }
        }
    }

    fn answer(&self, mut stream: UnixStream) {
        let limited = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        if limited.is_err() {
            return;
        }
        let response = match http::read(&mut stream) {
            Ok(request) => routes::answer(self, &request),
            Err(refusal) => refusal,
        };
        // A client that left does not want the answer.
        let _ = response.write(&mut stream);
    }
}
