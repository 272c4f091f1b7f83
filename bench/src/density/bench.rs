// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What all variants have in common.

use crate::density::member::Expected;
use crate::density::plan::Plan;
use std::path::Path;
use tmem_e2e::Assets;

/// Names of the VMs with the daemon; there are no more guests than this.
pub(crate) const VMS: [&str; 8] = ["vm0", "vm1", "vm2", "vm3", "vm4", "vm5", "vm6", "vm7"];

/// What a variant is run with.
pub(crate) struct Bench<'a> {
    pub(crate) assets: &'a Assets,
    pub(crate) plan: Plan,
    pub(crate) expected: &'a Expected,
    /// For swap disks and scripts.
    pub(crate) dir: &'a Path,
}
