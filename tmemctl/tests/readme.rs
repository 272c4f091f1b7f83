// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The READMEs' commands are commands.
#![allow(clippy::unwrap_used)]

use tmemctl::cli;

#[test]
fn the_readmes_command_lines_are_understood() {
    let texts = [
        include_str!("../../README.md"),
        include_str!("../../guest/README.md"),
        include_str!("../README.md"),
        include_str!("../../docs/operate.md"),
    ];
    let lines: Vec<_> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.starts_with("tmemctl "))
        .collect();
    assert!(!lines.is_empty(), "the READMEs show no command line");
    for line in lines {
        // What stands behind it is said to the reader.
        let command = line.split('#').next().unwrap_or(line);
        let matches = cli::command().try_get_matches_from(command.split_whitespace());
        assert!(matches.is_ok(), "{line}: {}", matches.unwrap_err());
    }
}

#[test]
fn the_commands_in_place_of_historic_ones_are_understood() {
    let text = include_str!("../../docs/metrics.md");
    let quoted = text.split('`').skip(1).step_by(2);
    let commands: Vec<_> = quoted.filter(|it| it.starts_with("tmemctl ")).collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let matches = cli::command().try_get_matches_from(command.split_whitespace());
        assert!(matches.is_ok(), "{command}: {}", matches.unwrap_err());
    }
}
