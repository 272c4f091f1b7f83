// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl swap-check`.

use anyhow::{Result, bail};

use crate::module::Module;
use crate::system::System;

/// Whether `/dev/tmem0` may be swapped on without a priority.
///
/// # Errors
/// It may not; or the module does not answer.
pub(crate) fn run(module: &impl Module, system: &System) -> Result<()> {
    if module.status()?.is_confidential != 0 {
        bail!(
            "/dev/tmem0 stays off: this guest's memory is encrypted (SEV, TDX), and the host would \
             get its pages in the clear; swap it on by hand if that is wanted"
        );
    }
    match system.swap_objection() {
        None => Ok(()),
        Some(objection) => bail!(objection),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;

    #[test]
    fn a_confidential_guest_does_not_swap_to_the_host_by_itself() {
        let module = Fake::default();
        run(&module, &System::default()).unwrap();
        module.encrypt();
        let error = run(&module, &System::default()).unwrap_err().to_string();
        assert!(error.contains("in the clear"), "{error}");
    }
}
