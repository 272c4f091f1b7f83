// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What moving memory out takes off a snapshot: memory that the host does not back any more.

use std::io::Write;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use tmem_cli::size;

use crate::failure;
use crate::module::Module;
use crate::progress;
use crate::uapi::GivenBack;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Looks in a row that find as much as the one before: then nothing more comes. The kernel reports what is free two
/// seconds after it became so, and again as long as there is more.
const STEADY: u32 = 16;

/// Looks at most: memory that is used meanwhile is taken again, so that there need be no end.
const MOST: u32 = 240;

/// Memory of the machine before any was moved out.
#[derive(Debug)]
pub(super) struct Snapshot {
    before: GivenBack,
}

impl Snapshot {
    /// To be called before memory is moved out.
    ///
    /// # Errors
    /// Free memory is not given back, or the host does not say what it backs.
    pub(super) fn begin(module: &impl Module) -> Result<Self> {
        let before = module.given_back().map_err(failure::give_back)?;
        if before.is_on == 0 {
            bail!(
                "a snapshot shrinks by what is given back to the host, and nothing is: \
                 `tmemctl give-back on` first"
            );
        }
        if before.is_able == 0 || before.memory_bytes == 0 {
            bail!("the host's device is not there, or does not say what it backs of the memory");
        }
        Ok(Self { before })
    }

    /// Waits until what is free was given back, and says what the host backs then.
    ///
    /// # Errors
    /// When the module does not answer.
    pub(super) fn end(&self, module: &impl Module, out: &mut impl Write) -> Result<()> {
        let shown = progress::is_shown();
        let settled = settle(|| {
            thread::sleep(LOOK);
            let now = module.given_back().map_err(failure::give_back)?;
            if shown {
                let backed = size::show(now.backed_bytes);
                progress::draw(&format!("given back, the host backs {backed}"));
            }
            Ok(now.backed_bytes)
        });
        if shown {
            progress::draw("");
        }
        writeln!(out, "{}", self.sentence(settled?))?;
        Ok(())
    }

    fn sentence(&self, backed: u64) -> String {
        let GivenBack {
            memory_bytes,
            backed_bytes,
            ..
        } = self.before;
        let (now, all) = (size::show(backed), size::show(memory_bytes));
        let host = format!("The host backs {now} of {all}");
        match backed_bytes.checked_sub(backed) {
            Some(less) if less > 0 => format!(
                "{host}, {} less than before: a snapshot of the memory is as much smaller.",
                size::show(less)
            ),
            _ => format!("{host}, no less than before."),
        }
    }
}

/// What `look` says once it says the same for a while, or the last it said.
fn settle(mut look: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut least = look()?;
    let mut steady = 0;
    for _ in 1..MOST {
        let now = look()?;
        steady = if now < least { 0 } else { steady + 1 };
        least = least.min(now);
        if steady == STEADY {
            return Ok(now);
        }
    }
    look()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;

    const MIB: u64 = 1 << 20;

    fn given(backed_bytes: u64) -> GivenBack {
        GivenBack {
            is_on: 1,
            memory_bytes: 512 * MIB,
            backed_bytes,
            ..GivenBack::default()
        }
    }

    #[test]
    fn it_waits_until_nothing_more_is_given_back() {
        let mut looks = 0_u32;
        let settled = settle(|| {
            looks += 1;
            // Pauses are shorter than what is taken for the end.
            Ok(400 * MIB - u64::from((looks / STEADY).min(3)) * 64 * MIB)
        });
        assert_eq!(settled.unwrap(), 208 * MIB);
        let mut looks = 0_u32;
        let settled = settle(|| {
            looks += 1;
            Ok(u64::from(1000 - looks))
        });
        assert_eq!((settled.unwrap(), looks), (759, 241));
    }

    #[test]
    fn it_says_how_much_smaller_a_snapshot_is() {
        let module = Fake::default();
        module.gave(given(400 * MIB));
        let snapshot = Snapshot::begin(&module).unwrap();
        assert_eq!(
            snapshot.sentence(150 * MIB),
            "The host backs 150 MiB of 512 MiB, 250 MiB less than before: a snapshot of the memory \
             is as much smaller."
        );
        assert_eq!(
            snapshot.sentence(401 * MIB),
            "The host backs 401 MiB of 512 MiB, no less than before."
        );
    }

    #[test]
    fn it_says_why_a_snapshot_does_not_shrink() {
        let module = Fake::default();
        let error = Snapshot::begin(&module).unwrap_err().to_string();
        assert!(error.contains("tmemctl give-back on"), "{error}");
        module.gave(GivenBack {
            memory_bytes: 0,
            ..given(0)
        });
        let error = Snapshot::begin(&module).unwrap_err().to_string();
        assert!(error.contains("does not say"), "{error}");
    }
}
