// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl top`: the virtual machines of a host, live.
//!
//! A thread asks the daemon ([`sample`]), so that keys work while it does not answer.
//! [`state`] is what is looked at, [`view`] draws it.

mod sample;
mod state;
mod view;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::open;
use crate::cli::Top;
use sample::Sample;
use state::State;

/// How long a key waits at most.
const BLINK: Duration = Duration::from_millis(50);

/// Does it until the user has enough.
pub(crate) fn run(wanted: &Top) -> Result<()> {
    ensure!(
        io::stdout().is_terminal() && io::stdin().is_terminal(),
        "`tmemctl top` needs a terminal; `tmemctl vm list` does not"
    );
    let api = open(&wanted.control);
    // Who cannot be asked at all is told without a screen.
    let first = Sample::take(&api)?;
    let (stop, stopped) = mpsc::channel::<()>();
    let (samples, taken) = mpsc::channel();
    let interval = wanted.interval;
    let thread = std::thread::Builder::new().name("sample".into());
    // It is left alone at the end: it may wait for a daemon that does not answer.
    thread
        .spawn(move || ask(&api, interval, &samples, &stopped))
        .context("cannot start a thread")?;
    let mut state = State::new(first);
    // Restores the terminal also when this panics.
    let shown = ratatui::run(|terminal| {
        while !state.is_over() {
            terminal.draw(|frame| view::draw(frame, &mut state, &wanted.control.control))?;
            look(&mut state, &taken)?;
        }
        io::Result::Ok(())
    });
    drop(stop);
    shown.context("cannot draw on the terminal")
}

/// Asks again and again.
fn ask(
    api: &super::Api,
    interval: Duration,
    samples: &Sender<Result<Sample>>,
    stopped: &Receiver<()>,
) {
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        if samples.send(Sample::take(api)).is_err() {
            return;
        }
    }
}

/// Waits until something is to be drawn anew.
fn look(state: &mut State, taken: &Receiver<Result<Sample>>) -> io::Result<()> {
    let began = Instant::now();
    loop {
        if event::poll(BLINK)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
                    let code = match key.code {
                        KeyCode::Char('c') if is_control => KeyCode::Esc,
                        other => other,
                    };
                    state.press(code);
                }
                _ => {}
            }
            return Ok(());
        }
        if let Ok(sample) = taken.try_recv() {
            state.take(sample);
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(1) {
            return Ok(());
        }
    }
}

/// Whether a path can be shown; for the heading.
fn place(control: &Path) -> String {
    control.display().to_string()
}

#[cfg(test)]
mod tests;
