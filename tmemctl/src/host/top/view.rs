// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Draws what is looked at. 80 columns are enough; names get what is more.

use std::path::Path;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Gauge, Paragraph, Row as Cells, Table};

use super::super::table::{brief, perhaps, ratio};
use super::place;
use super::state::{Row, State};

/// A letter for the state of each machine.
const LEGEND: &str = "C connected  - waiting  F frozen";

const HEADINGS: [&str; 11] = [
    "NAME", "S", "HELD", "QUOTA", "USED", "STORED", "RATIO", "PUT/s", "GET/s", "HIT", "BACK",
];

/// Columns of all but the name.
const WIDTHS: [u16; 10] = [1, 5, 5, 4, 6, 5, 6, 6, 4, 5];

pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, control: &Path) {
    let rows = Constraint::Length;
    let areas = Layout::vertical([rows(1), rows(1), rows(1), Constraint::Fill(1), rows(1)]);
    let [title, gauge, host, table, keys] = areas.areas(frame.area());
    // One is the heading.
    state.set_page(usize::from(table.height).saturating_sub(1));
    let shown = state.rows();
    let connected = shown.iter().filter(|row| row.vm.connected).count();
    let text = match state.trouble() {
        Some(trouble) => Line::from(trouble.to_owned()).bold().reversed(),
        None => Line::from(format!(
            "tmemctl top  {} VMs, {connected} connected  {}",
            shown.len(),
            place(control)
        ))
        .bold(),
    };
    frame.render_widget(text, title);
    let freeable = state.host();
    frame.render_widget(
        fill(freeable.held_bytes, freeable.memory_limit_bytes),
        gauge,
    );
    let text = format!(
        "free {}  freeable {}  promised {}  promisable {}",
        brief(freeable.free_bytes),
        brief(freeable.freeable_bytes),
        brief(freeable.promised_bytes),
        brief(freeable.promisable_bytes),
    );
    frame.render_widget(Paragraph::new(text), host);
    let fit = shown.iter().skip(state.first());
    let cells = fit.take(usize::from(table.height)).map(row);
    let widths = std::iter::once(Constraint::Fill(1)).chain(WIDTHS.map(Constraint::Length));
    let heading = Cells::new(
        HEADINGS
            .iter()
            .enumerate()
            .map(|(nth, text)| cell(nth, text)),
    );
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(
        Table::new(cells, widths).header(heading.style(style)),
        table,
    );
    let text = format!(
        "q quit  s sort: {}  \u{2191}\u{2193} PgUp PgDn scroll  {LEGEND}",
        state.order().name()
    );
    frame.render_widget(Line::from(text).dim(), keys);
}

fn fill(held: u64, limit: u64) -> Gauge<'static> {
    let percent = u128::from(held)
        .saturating_mul(100)
        .checked_div(u128::from(limit))
        .and_then(|percent| u16::try_from(percent).ok());
    let label = format!("held {} of {}", brief(held), brief(limit));
    Gauge::default()
        .percent(percent.unwrap_or(100).min(100))
        .label(label)
}

fn row(row: &Row) -> Cells<'static> {
    let vm = &row.vm;
    let used = u128::from(vm.held_bytes)
        .saturating_mul(100)
        .checked_div(u128::from(vm.quota_bytes));
    let letter = match (vm.frozen, vm.connected) {
        (true, _) => "F",
        (false, true) => "C",
        (false, false) => "-",
    };
    let cells = [
        vm.name.clone(),
        letter.to_owned(),
        brief(vm.held_bytes),
        brief(vm.quota_bytes),
        used.map_or_else(|| "-".into(), |used| format!("{}%", used.min(999))),
        brief(vm.stored_bytes),
        ratio(vm.stored_bytes, vm.held_bytes),
        count(row.puts),
        count(row.gets),
        row.hits
            .map_or_else(|| "-".into(), |hits| format!("{hits}%")),
        perhaps(vm.given_back_bytes),
    ];
    Cells::new(cells.iter().enumerate().map(|(nth, text)| cell(nth, text)))
}

/// A number in at most six characters.
fn count(number: u64) -> String {
    match number {
        0..1_000_000 => number.to_string(),
        1_000_000..1_000_000_000 => format!("{}M", number / 1_000_000),
        _ => "many".into(),
    }
}

/// Names to the left, numbers to the right.
fn cell(column: usize, text: &str) -> Cell<'static> {
    let alignment = match column {
        0 | 1 => Alignment::Left,
        _ => Alignment::Right,
    };
    Cell::from(Text::from(text.to_owned()).alignment(alignment))
}
