// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is looked at, and how.

use std::cmp::Reverse;

use anyhow::Result;
use ratatui::crossterm::event::KeyCode;

use super::super::api::{Freeable, Vm};
use super::sample::{Counters, Sample};

/// By what machines are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Held,
    Puts,
    Gets,
    Name,
}

impl Order {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Puts => "puts",
            Self::Gets => "gets",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Held => Self::Puts,
            Self::Puts => Self::Gets,
            Self::Gets => Self::Name,
            Self::Name => Self::Held,
        }
    }
}

/// A machine, and how much it did in a second.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) vm: Vm,
    pub(super) puts: u64,
    pub(super) gets: u64,
    /// Hits in a hundred gets; `None`: there was no get.
    pub(super) hits: Option<u64>,
}

/// What is looked at.
#[derive(Debug)]
pub(super) struct State {
    last: Sample,
    rows: Vec<Row>,
    order: Order,
    /// The first row that is shown.
    first: usize,
    /// Rows that fit.
    page: usize,
    /// Why nothing newer is shown.
    trouble: Option<String>,
    is_over: bool,
}

impl State {
    pub(super) fn new(sample: Sample) -> Self {
        let mut state = Self {
            rows: rows(&sample, &sample),
            last: sample,
            order: Order::Held,
            first: 0,
            page: 1,
            trouble: None,
            is_over: false,
        };
        state.sort();
        state
    }

    pub(super) fn host(&self) -> &Freeable {
        &self.last.host
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    pub(super) fn first(&self) -> usize {
        self.first
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// So many rows fit.
    pub(super) fn set_page(&mut self, page: usize) {
        self.page = page.max(1);
        self.scroll_to(self.first);
    }

    /// What the daemon says now; if it says nothing, what it said last stays.
    pub(super) fn take(&mut self, sample: Result<Sample>) {
        match sample {
            Ok(sample) => {
                self.rows = rows(&self.last, &sample);
                self.last = sample;
                self.trouble = None;
                self.sort();
                self.scroll_to(self.first);
            }
            Err(error) => self.trouble = Some(format!("{error:#}")),
        }
    }

    pub(super) fn press(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => self.is_over = true,
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.sort();
                self.first = 0;
            }
            KeyCode::Down | KeyCode::Char('j') => self.scroll_to(self.first.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.scroll_to(self.first.saturating_sub(1)),
            KeyCode::PageDown | KeyCode::Char(' ') => {
                self.scroll_to(self.first.saturating_add(self.page));
            }
            KeyCode::PageUp => self.scroll_to(self.first.saturating_sub(self.page)),
            KeyCode::Home => self.scroll_to(0),
            KeyCode::End => self.scroll_to(usize::MAX),
            _ => {}
        }
    }

    fn scroll_to(&mut self, first: usize) {
        self.first = first.min(self.rows.len().saturating_sub(self.page));
    }

    fn sort(&mut self) {
        let order = self.order;
        // Those that are equal stay by name.
        self.rows.sort_by_cached_key(|row| {
            let most = match order {
                Order::Held => row.vm.held_bytes,
                Order::Puts => row.puts,
                Order::Gets => row.gets,
                Order::Name => 0,
            };
            (Reverse(most), row.vm.name.clone())
        });
    }
}

fn rows(before: &Sample, now: &Sample) -> Vec<Row> {
    let time = now.at.saturating_duration_since(before.at).as_millis();
    let row = |vm: &Vm| {
        let (was, is) = (before.counters.get(&vm.name), now.counters.get(&vm.name));
        // One that was removed and added anew begins at 0 again; one that is new has no past.
        let is = is.copied().unwrap_or_default();
        let was = was.copied().unwrap_or(is);
        let since = |of: fn(&Counters) -> u64| of(&is).saturating_sub(of(&was));
        let rate = |count: u64| {
            let rate = (u128::from(count) * 1000).checked_div(time);
            rate.and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
        };
        let gets = since(|it| it.gets);
        Row {
            vm: vm.clone(),
            puts: rate(since(|it| it.puts)),
            gets: rate(gets),
            hits: since(|it| it.get_hits)
                .saturating_mul(100)
                .checked_div(gets),
        }
    };
    now.vms.iter().map(row).collect()
}
