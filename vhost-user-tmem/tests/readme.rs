// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The commands of the documentation are commands.
#![allow(clippy::unwrap_used)]

use vhost_user_tmem::cli;

const OPERATE: &str = include_str!("../../docs/operate.md");

#[test]
fn the_documented_command_lines_are_understood() {
    let text = OPERATE.replace("\\\n", " ");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("vhost-user-tmem "))
        .collect();
    assert!(!lines.is_empty(), "docs/operate.md shows no command line");
    for line in lines {
        // None of them has a blank in quotes.
        let words = line.split_whitespace().map(|word| word.trim_matches('\''));
        let matches = cli::command().try_get_matches_from(words);
        assert!(matches.is_ok(), "{line}: {}", matches.unwrap_err());
    }
}

#[test]
fn the_documented_settings_of_machines_are_those_of_the_help() {
    let help = cli::command().render_long_help().to_string();
    let settings = OPERATE
        .split("--vm ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next())
        .flat_map(|settings| settings.split(','))
        .filter_map(|setting| setting.split_once('='));
    for (name, _) in settings {
        assert!(help.contains(&format!("{name}=")), "no setting {name}");
    }
}
