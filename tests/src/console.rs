// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest's kernel says on its console, and what it must not say.

/// Each is a bug of the module or of the device, whatever the test looks at.
const TROUBLE: &[&str] = &[
    "Kernel panic",
    "Oops",
    "BUG:",
    "WARNING:",
    "UBSAN:",
    "KASAN:",
    "general protection fault",
    "unable to handle",
    "soft lockup",
    "hard lockup",
    "blocked for more than",
    "self-detected stall",
    "detected stalls",
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    "scheduling while atomic",
    "Bad page state",
    "Bad swap",
    "swap_free:",
    "get_swap_device:",
];

/// The lines of `log` that tell of trouble.
pub(crate) fn trouble(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| TROUBLE.iter().any(|sign| line.contains(sign)))
        .collect()
}

/// The last `count` lines of `log`.
pub(crate) fn tail(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_found_and_an_oom_kill_is_none() {
        let log = "[ 1.0] Booting\n\
                   [ 2.0] Out of memory: Killed process 71 (tmem-agent)\n\
                   [ 3.0] BUG: kernel NULL pointer dereference\n";
        assert_eq!(
            trouble(log),
            ["[ 3.0] BUG: kernel NULL pointer dereference"]
        );
    }

    #[test]
    fn the_tail_of_a_short_log_is_all_of_it() {
        assert_eq!(tail("a\nb", 5), "a\nb");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
    }
}
