// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests of our own VMM. Where this machine's KVM cannot run a stock kernel,
//! the VMM runs in an outer guest on an emulated CPU that has SVM, so its
//! guests are slow: 15 s to boot, and one after the other. A test therefore
//! has one machine for the VMM, and several guests on it in turn.

mod outer;

use crate::bed;
use anyhow::Result;
use std::sync::Arc;
use tmem_e2e::DaemonOptions;
use tmem_e2e::DaemonPlace;
use tmem_e2e::Host;
use tmem_e2e::HostOptions;

/// A machine for the VMM.
fn host(name: &str) -> Result<Arc<Host>> {
    Host::with_kvm(
        &bed::assets()?,
        HostOptions {
            name: name.into(),
            ..HostOptions::default()
        },
    )
}

/// A place for a daemon beside the VMM.
fn daemon(host: &Arc<Host>) -> Result<DaemonPlace> {
    DaemonPlace::new(
        host,
        DaemonOptions {
            quota: "512M",
            swap_size: "1G",
            memory_limit: "768M",
            ..DaemonOptions::default()
        },
    )
}
