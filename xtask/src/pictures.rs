// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pictures of `docs/pictures`, drawn here so that a change of the words is
//! a change of this file. `cargo xtask pictures` writes them.

mod filter;
mod vmm;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Where the pictures lie, from the root of the checkout.
const FOLDER: &str = "docs/pictures";

/// Writes every picture.
pub(crate) fn run(root: &Path) -> Result<()> {
    for (name, svg) in all() {
        let path = root.join(FOLDER).join(name);
        fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        println!("drew {}", path.display());
    }
    Ok(())
}

fn all() -> [(&'static str, String); 4] {
    [
        ("overview.svg", overview()),
        ("request.svg", request()),
        ("vmm.svg", vmm::picture()),
        ("filter.svg", filter::picture()),
    ]
}

/// An SVG in the making. Lengths are in pixels at 100 %.
struct Picture(String);

#[derive(Clone, Copy)]
struct Area {
    x: i32,
    y: i32,
    w: i32,
    h: i32,
}

impl Picture {
    fn new(w: i32, h: i32) -> Self {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" \
             font-family=\"sans-serif\" font-size=\"14\">\n"
        );
        svg.push_str(
            "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" \
             markerHeight=\"8\" orient=\"auto-start-reverse\"><path d=\"M0 0L8 4L0 8z\" \
             fill=\"#333\"/></marker></defs>\n",
        );
        svg.push_str("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n");
        Self(svg)
    }

    fn area(&mut self, area: Area, fill: &str) {
        let Area { x, y, w, h } = area;
        let _ = writeln!(
            self.0,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"6\" fill=\"{fill}\" \
             stroke=\"#666\"/>"
        );
    }

    fn text(&mut self, x: i32, y: i32, style: &str, text: &str) {
        let _ = writeln!(self.0, "<text x=\"{x}\" y=\"{y}\" {style}>{text}</text>");
    }

    /// A box with a title and smaller lines below it, centred.
    fn labelled(&mut self, area: Area, fill: &str, title: &str, lines: &[&str]) {
        self.area(area, fill);
        let middle = area.x + area.w / 2;
        self.text(
            middle,
            area.y + 22,
            "text-anchor=\"middle\" font-weight=\"bold\" fill=\"#222\"",
            title,
        );
        for (y, line) in (area.y + 40..).step_by(16).zip(lines) {
            self.text(
                middle,
                y,
                "text-anchor=\"middle\" font-size=\"12\" fill=\"#444\"",
                line,
            );
        }
    }

    fn arrow(&mut self, from: (i32, i32), to: (i32, i32)) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"#333\" stroke-width=\"1.5\" \
             marker-end=\"url(#tip)\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

const GUEST: &str = "#e8f1fb";
const HOST: &str = "#fdf3e3";
const PART: &str = "#ffffff";
const STORE: &str = "#e9f6e9";

const SMALL_MIDDLE: &str = "text-anchor=\"middle\" font-size=\"12\" fill=\"#444\"";

/// A page's way from the guest to the store and back.
fn overview() -> String {
    let mut to = Picture::new(920, 330);
    let guest = Area {
        x: 20,
        y: 20,
        w: 300,
        h: 290,
    };
    let host = Area {
        x: 480,
        y: 20,
        w: 420,
        h: 290,
    };
    to.area(guest, GUEST);
    to.text(36, 44, "font-weight=\"bold\"", "guest VM (one of many)");
    to.area(host, HOST);
    to.text(496, 44, "font-weight=\"bold\"", "host: vhost-user-tmem");

    let program = Area {
        x: 40,
        y: 58,
        w: 260,
        h: 54,
    };
    to.labelled(program, PART, "Linux mm", &["a cold page is swapped out"]);
    let disk = Area {
        x: 40,
        y: 140,
        w: 260,
        h: 70,
    };
    to.labelled(
        disk,
        PART,
        "/dev/tmem0",
        &[
            "neighbouring pages become one run,",
            "freed slots become one flush",
        ],
    );
    let driver = Area {
        x: 40,
        y: 238,
        w: 260,
        h: 54,
    };
    to.labelled(
        driver,
        PART,
        "virtio_tmem.ko",
        &["one request per run, one kick per batch"],
    );
    to.arrow((170, 112), (170, 138));
    to.arrow((170, 210), (170, 236));

    let device = Area {
        x: 500,
        y: 58,
        w: 380,
        h: 54,
    };
    to.labelled(
        device,
        PART,
        "virtio-tmem device",
        &["checks every byte; a status for each page"],
    );
    let store = Area {
        x: 500,
        y: 140,
        w: 380,
        h: 70,
    };
    to.labelled(
        store,
        STORE,
        "tmem-store: pools, index, quotas",
        &["pool, object, index → page", "same-filled word · lz4 · raw"],
    );
    let memory = Area {
        x: 500,
        y: 238,
        w: 380,
        h: 54,
    };
    to.labelled(
        memory,
        STORE,
        "page memory",
        &["size classes in one file mapping, given back when empty"],
    );
    to.arrow((690, 112), (690, 138));
    to.arrow((690, 210), (690, 236));

    to.arrow((302, 258), (498, 84));
    to.arrow((498, 98), (302, 276));
    to.text(400, 128, SMALL_MIDDLE, "put, get, flush");
    to.text(400, 238, SMALL_MIDDLE, "virtqueue");
    to.text(400, 254, SMALL_MIDDLE, "in shared memory");
    to.end()
}

/// What one request is made of.
fn request() -> String {
    let mut to = Picture::new(920, 190);
    let rows = [
        ("PUT", "pages, 4096 · count", None),
        ("GET", "", Some("pages, 4096 · count")),
    ];
    to.text(250, 26, SMALL_MIDDLE, "device-readable");
    to.text(680, 26, SMALL_MIDDLE, "device-writable");
    for (top, (name, readable, writable)) in (40..).step_by(74).zip(rows) {
        to.text(16, top + 36, "font-weight=\"bold\"", name);
        let header = Area {
            x: 70,
            y: top,
            w: 150,
            h: 58,
        };
        to.labelled(header, GUEST, "request header", &["48 bytes"]);
        if !readable.is_empty() {
            to.labelled(
                Area {
                    x: 228,
                    y: top,
                    w: 200,
                    h: 58,
                },
                GUEST,
                "data",
                &[readable],
            );
        }
        let answer = Area {
            x: 470,
            y: top,
            w: 130,
            h: 58,
        };
        to.labelled(answer, HOST, "answer header", &["16 bytes"]);
        let status = Area {
            x: 608,
            y: top,
            w: 110,
            h: 58,
        };
        to.labelled(status, HOST, "page status", &["1 · count"]);
        if let Some(text) = writable {
            to.labelled(
                Area {
                    x: 726,
                    y: top,
                    w: 180,
                    h: 58,
                },
                HOST,
                "data",
                &[text],
            );
        }
    }
    to.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_in_the_repository_are_those_drawn_here() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(FOLDER);
        for (name, svg) in all() {
            let kept = fs::read_to_string(root.join(name)).unwrap();
            assert!(kept == svg, "{name} is old: run `cargo xtask pictures`");
        }
    }
}
