// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests of our own VMM. Where this machine's KVM cannot run a stock kernel,
//! the VMM runs in an outer guest on an emulated CPU that has SVM, so its
//! guests are slow: 15 s to boot, and one after the other.

mod outer;

use anyhow::Result;
use std::sync::Arc;
use tmem_e2e::Daemon;
use tmem_e2e::DaemonOptions;
use tmem_e2e::Host;

/// A daemon beside the VMM.
fn daemon(host: &Arc<Host>) -> Result<Daemon> {
    Daemon::start_on(
        host,
        &DaemonOptions {
            quota: "512M",
            swap_size: "1G",
            memory_limit: "768M",
            ..DaemonOptions::default()
        },
    )
}
