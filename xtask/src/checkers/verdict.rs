// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest's console says about the run.

/// What init says begins so.
const INIT: &str = "checkers: ";

/// Init's last word when all went well.
const DONE: &str = ": DONE";

/// Words of kernel messages that tell of something wrong. A call trace alone
/// does not: there is one when memory is refused on request.
const REPORTS: &[&str] = &[
    "BUG:",
    "WARNING:",
    "KASAN:",
    "UBSAN:",
    "ODEBUG:",
    "INFO: possible",
    "INFO: task ",
    "INFO: rcu",
    "inconsistent lock state",
    "suspicious RCU usage",
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    "Kernel panic",
    "kernel BUG at",
    "unreferenced object",
    "lockup",
    "rejected a request",
    "refused a request",
];

/// What init says when the run has failed.
const FAILED: &str = "FAILED";

pub(super) fn is_worth_showing(line: &str) -> bool {
    line.contains(INIT) || is_report(line)
}

/// The lines that tell of something wrong; one that says so when the guest has
/// not come to its end.
pub(super) fn of(console: &str) -> Vec<String> {
    let mut found: Vec<String> = console
        .lines()
        .filter(|line| is_report(line) || (line.contains(INIT) && line.contains(FAILED)))
        .map(|line| line.trim_end().to_string())
        .collect();
    let done = console
        .lines()
        .any(|line| line.contains(INIT) && line.trim_end().ends_with(DONE));
    if found.is_empty() && !done {
        found.push("the guest ended before its time".to_string());
    }
    found
}

fn is_report(line: &str) -> bool {
    REPORTS.iter().any(|report| line.contains(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: &str = "[    0.0] Linux version\ncheckers: 1 s: phase swap\ncheckers: 9 s: DONE\n";

    #[test]
    fn a_quiet_run_that_ends_is_well() {
        assert_eq!(of(WELL), Vec::<String>::new());
    }

    #[test]
    fn a_run_without_an_end_is_not() {
        assert_eq!(of("checkers: 1 s: phase swap\n").len(), 1);
    }

    #[test]
    fn reports_are_found() {
        for report in [
            "[   1.0][ T1] WARNING: possible circular locking dependency detected",
            "[   1.0][ T1] BUG: sleeping function called from invalid context at mm.c:1",
            "[   1.0][ T1] BUG: KASAN: slab-use-after-free in tmem+0x1/0x2",
            "[   1.0][ T1] INFO: task load:1 blocked for more than 120 seconds.",
            "checkers: 3 s: FAILED: rmmod",
        ] {
            let console = format!("{WELL}{report}\n");
            assert_eq!(of(&console), [report], "{report}");
        }
    }
}
