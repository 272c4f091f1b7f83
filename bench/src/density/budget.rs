// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory that the host has for daemon and guests together: a control group
//! with a limit, of version 1 or 2, whichever has the memory controller.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::process::geteuid;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tmem_e2e::until;
use tmem_host::group::Held;
use tmem_host::group::Made;

/// For what was in the group to be gone.
const EMPTY: Duration = Duration::from_secs(30);

/// A control group; removed when this is dropped.
pub(crate) struct Budget(Made);

impl Budget {
    /// Makes a group that may hold `bytes`, without swap.
    ///
    /// # Errors
    /// The caller is not root, or there is no memory controller.
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        if !geteuid().is_root() {
            bail!(
                "the memory of guests and daemon is limited by a control group: run this as root"
            );
        }
        let name = format!("tmem-density-{}", std::process::id());
        let made = Made::new(&name, bytes);
        Ok(Self(made.context(
            "there is nothing to limit the host's memory with",
        )?))
    }

    /// What the members hold now.
    pub(crate) fn held(&self) -> Result<Held> {
        let held = self.0.group().held();
        held.context("the control group does not say what it holds")
    }

    /// Processes that the kernel has killed because the group was full.
    pub(crate) fn kills(&self) -> Result<u64> {
        let kills = self.held()?.kills;
        kills.context("the control group does not count who was killed")
    }

    /// A program that joins the group and then becomes the one that `words` name,
    /// followed by its own arguments: a script, at `path`. `oom_score_adj` is what
    /// the kernel goes by when somebody must be killed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn wrap(&self, words: &[PathBuf], oom_score_adj: u32, path: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let text = format!(
            "#!/bin/sh\necho $$ >{} || exit\necho {oom_score_adj} >/proc/self/oom_score_adj\n\
             exec {} \"$@\"\n",
            quoted(&self.0.members()),
            words.join(" ")
        );
        let cannot = || format!("cannot write {}", path.display());
        fs::write(path, text).with_context(cannot)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(cannot)
    }

    /// Removes the group, whose members must have ended.
    ///
    /// # Errors
    /// Some have not.
    pub(crate) fn end(self) -> Result<()> {
        until("the control group to be empty", EMPTY, || {
            Ok(self.0.remove().is_ok().then_some(()))
        })
    }
}

fn quoted(word: &Path) -> String {
    format!("'{}'", word.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_a_program_as_they_are() {
        assert_eq!(quoted(Path::new("/a b'c")), r"'/a b'\''c'");
    }
}
