// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A TCP socket on which metrics can be read, and nothing else.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use tmem_host::api::Api;
use tmem_host::http;

use crate::answering::Answering;
use crate::cli::Options;
use crate::confine::{self, Role};

/// Such a socket, on which nobody is answered yet.
#[derive(Debug)]
pub struct Scrape {
    listener: TcpListener,
    api: Api,
}

impl Scrape {
    /// Takes the socket that was inherited, or else makes the one that the options ask for.
    /// Whoever reaches it may read, so that only this host does unless they say otherwise.
    ///
    /// # Errors
    /// When other hosts reach the address, or it cannot be had.
    pub fn open(
        options: &Options,
        inherited: Option<TcpListener>,
        api: Api,
    ) -> Result<Option<Self>> {
        let address = match (&inherited, options.metrics_listen) {
            (Some(listener), _) => {
                let address = listener.local_addr();
                address.context("the socket for metrics has no address")?
            }
            (None, Some(address)) => address,
            (None, None) => return Ok(None),
        };
        ensure!(
            address.ip().is_loopback() || options.metrics_remote,
            "other hosts reach {address}, and whoever does may read all metrics: give a loopback address like 127.0.0.1:9749, or --metrics-remote"
        );
        let listener = inherited.map_or_else(|| TcpListener::bind(address), Ok);
        let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
        // A client that leaves before it is accepted keeps nobody waiting.
        let unblocked = listener.set_nonblocking(true);
        unblocked.context("cannot set up the socket for metrics")?;
        let address = listener.local_addr();
        let address = address.context("cannot set up the socket for metrics")?;
        log::info!("metrics are at http://{address}/metrics");
        Ok(Some(Self { listener, api }))
    }

    /// Answers in a thread of its own.
    ///
    /// # Errors
    /// When the system has no event or thread.
    pub fn start(self) -> Result<Answering> {
        Answering::start("scrape", move |stop| {
            confine::enter(Role::Scrape);
            http::serve(&self.listener, stop, None, |request| {
                self.api.answer_metrics(request)
            });
        })
    }
}
