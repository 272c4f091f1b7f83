// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Other processes: what the kernel knows of them, and that they end.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

/// Time that the threads of the process `pid` were on CPUs.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = stat.split_ascii_whitespace().next();
        nanos += first.unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Runs `program` such that the kernel ends it with the thread that starts it, in whatever way that
/// ends.
pub(crate) fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Stdio;

    #[test]
    fn who_starts_a_program_takes_it_along() {
        let start = || {
            let mut command = bound("sh");
            command.args(["-c", "echo begun; exec sleep 600"]);
            let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut begun = [0; 5];
            process
                .stdout
                .take()
                .unwrap()
                .read_exact(&mut begun)
                .unwrap();
            process
        };
        let mut process = std::thread::spawn(start).join().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
