// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::super::api::{Freeable, Vm};
use super::sample::{Counters, Sample};
use super::state::State;
use super::view;

/// A host with so many machines, `seconds` after it began; each does more than the one before.
fn sample(began: Instant, seconds: u64, machines: u64) -> Sample {
    let mut vms = Vec::new();
    let mut counters = BTreeMap::new();
    for nth in 0..machines {
        let name = format!("vm{nth:03}");
        vms.push(Vm {
            name: name.clone(),
            connected: nth % 2 == 0,
            frozen: nth == 1,
            quota_bytes: 1 << 30,
            held_bytes: nth << 20,
            stored_bytes: (nth * 3) << 20,
            given_back_bytes: (nth % 2 == 0).then_some(5 << 30),
            ..Vm::default()
        });
        let counted = Counters {
            puts: nth * 10 * seconds,
            gets: nth * seconds,
            get_hits: nth * seconds / 2,
        };
        counters.insert(name, counted);
    }
    Sample {
        at: began + Duration::from_secs(seconds),
        host: Freeable {
            memory_limit_bytes: 64 << 30,
            held_bytes: 16 << 30,
            free_bytes: 48 << 30,
            promised_bytes: 40 << 30,
            promisable_bytes: 24 << 30,
            freeable_bytes: 1536 << 20,
        },
        vms,
        counters,
    }
}

/// What is drawn on a terminal of so many columns and lines.
fn drawn(state: &mut State, columns: u16, lines: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    let control = Path::new("/run/virtio-tmem/control.sock");
    terminal
        .draw(|frame| view::draw(frame, state, control))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let line = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect();
    buffer.content.chunks(columns.into()).map(line).collect()
}

/// A line with one space where there are several.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn eighty_columns_show_the_host_and_who_holds_most() {
    let began = Instant::now();
    let mut state = State::new(sample(began, 0, 200));
    state.take(Ok(sample(began, 2, 200)));
    let lines = drawn(&mut state, 80, 24);
    assert!(lines[0].contains("200 VMs, 100 connected"), "{lines:#?}");
    assert!(lines[1].contains("held 16G of 64G"));
    assert!(lines[2].contains("freeable 1.5G") && lines[2].contains("promisable 24G"));
    let heading: Vec<_> = lines[3].split_whitespace().collect();
    assert_eq!(heading.len(), 11, "{}", lines[3]);
    assert_eq!(
        words(&lines[4]),
        "vm199 - 199M 1G 19% 597M 3.0 1990 199 50% -"
    );
    assert_eq!(
        words(&lines[5]),
        "vm198 C 198M 1G 19% 594M 3.0 1980 198 50% 5G"
    );
    assert!(lines[23].contains("q quit") && lines[23].contains("sort: held"));
    // Whatever the numbers are, columns stay apart.
    assert!(lines.iter().all(|line| line.chars().count() == 80));
}

#[test]
fn all_machines_can_be_reached_and_sorted() {
    let began = Instant::now();
    let mut state = State::new(sample(began, 0, 200));
    let first = |state: &mut State| drawn(state, 80, 24)[4][..5].to_owned();
    let last = |state: &mut State| drawn(state, 80, 24)[22][..5].to_owned();
    assert_eq!(first(&mut state), "vm199");
    state.press(KeyCode::Down);
    assert_eq!(first(&mut state), "vm198");
    state.press(KeyCode::End);
    assert_eq!(last(&mut state), "vm000");
    state.press(KeyCode::PageUp);
    state.press(KeyCode::Home);
    for _ in 0..3 {
        state.press(KeyCode::Char('s'));
    }
    assert_eq!(first(&mut state), "vm000");
    state.press(KeyCode::PageDown);
    assert_eq!(first(&mut state), "vm019");
    // Machines go meanwhile.
    state.press(KeyCode::End);
    state.take(Ok(sample(began, 1, 3)));
    assert_eq!(first(&mut state), "vm000");
    assert!(!state.is_over());
    state.press(KeyCode::Char('q'));
    assert!(state.is_over());
}

#[test]
fn a_daemon_that_is_away_is_told_and_what_was_last_known_stays() {
    let began = Instant::now();
    let mut state = State::new(sample(began, 0, 2));
    state.take(Err(anyhow::anyhow!("no daemon listens")));
    let lines = drawn(&mut state, 80, 24);
    assert!(lines[0].starts_with("no daemon listens"));
    assert!(lines[4].starts_with("vm001"));
    // Counters that begin again are not a rate.
    state.take(Ok(sample(began, 10, 2)));
    state.take(Ok(sample(began, 11, 2)));
    let mut anew = sample(began, 0, 2);
    anew.at = began + Duration::from_secs(12);
    state.take(Ok(anew));
    let lines = drawn(&mut state, 80, 24);
    assert!(words(&lines[4]).ends_with("0 0 - -"), "{}", lines[4]);
}

#[test]
fn no_terminal_is_too_small_and_no_host_too_empty() {
    let began = Instant::now();
    let mut state = State::new(sample(began, 0, 0));
    for (columns, lines) in [(1, 1), (10, 3), (80, 4), (300, 100)] {
        drawn(&mut state, columns, lines);
        let mut many = State::new(sample(began, 0, 200));
        drawn(&mut many, columns, lines);
    }
    let mut nothing = sample(began, 0, 1);
    nothing.host = Freeable::default();
    nothing.vms[0].quota_bytes = 0;
    drawn(&mut State::new(nothing), 80, 24);
}
