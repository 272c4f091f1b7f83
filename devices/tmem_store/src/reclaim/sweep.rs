// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages of bases that nobody sees any more.

use super::Reclaimer;
use crate::sync::atomic::Ordering::Relaxed;

impl Reclaimer {
    /// Removes some pages of a base that all who have it have hidden; whether there may be more.
    pub(crate) fn sweep_some(&self) -> bool {
        // Who is not there yet may see what others have hidden.
        if self.awaits_clients.load(Relaxed) {
            return false;
        }
        let mut bases = self
            .each_member()
            .filter(|member| member.is_base.load(Relaxed));
        bases.any(|base| {
            let pools: Vec<_> = base.pools().values().cloned().collect();
            pools.iter().any(|pool| pool.sweep_some())
        })
    }
}
