// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Modules of a crate know each other without circles.

use super::paths;
use super::workspace;
use crate::project;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Which of a crate's top-level modules names which others, its tests apart.
pub(super) type Arrows = BTreeMap<String, BTreeSet<String>>;

/// A module's path from the crate's root on.
type Module = Vec<String>;

/// The text of the crate's root.
fn root(src: &Path) -> String {
    ["lib.rs", "main.rs"]
        .map(|name| fs::read_to_string(src.join(name)).unwrap_or_default())
        .concat()
}

/// All modules of the crate whose sources are in `src`, tests apart, and their text.
fn modules(src: &Path) -> Vec<(Module, String)> {
    let mut files = Vec::new();
    let tests = paths::test_modules(&root(src));
    collect(src, &mut Vec::new(), &tests, &mut files);
    files
}

/// The arrows of the crate whose sources are in `src`.
pub(super) fn arrows(src: &Path) -> Arrows {
    let files = modules(src);
    let root = root(src);
    let modules: BTreeSet<_> = files
        .iter()
        .filter_map(|(path, _)| path.first().cloned())
        .collect();
    let reexports = paths::reexports(&paths::code(&root));
    let mut arrows = Arrows::new();
    for (path, text) in &files {
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        let Some(from) = path.first() else {
            continue;
        };
        let to = arrows.entry((*from).to_string()).or_default();
        for name in paths::names(&paths::code(text), &path) {
            let module = if modules.contains(&name) {
                &name
            } else {
                reexports.get(&name).unwrap_or(&name)
            };
            if modules.contains(module) && module != from {
                to.insert(module.clone());
            }
        }
    }
    arrows
}

/// Which files of the crate name which others. What a module and those in it know of each other is
/// left aside: they are one, in several files.
fn files(src: &Path) -> Arrows {
    let files = modules(src);
    let known: BTreeSet<&Module> = files.iter().map(|(path, _)| path).collect();
    let mut arrows = Arrows::new();
    for (path, text) in &files {
        let names: Vec<_> = path.iter().map(String::as_str).collect();
        let to = arrows.entry(path.join("::")).or_default();
        for named in paths::absolute(&paths::code(text), &names) {
            let lengths = (1..=named.len()).rev();
            let module = lengths
                .map(|length| &named[..length])
                .find(|module| known.contains(&module.to_vec()));
            if let Some(module) = module
                && !module.starts_with(path)
                && !path.starts_with(module)
            {
                to.insert(module.join("::"));
            }
        }
    }
    arrows
}

/// The modules below `dir`, which has the module `at`: where they are, and their text.
/// Those named in `left_out` are for tests.
fn collect(dir: &Path, at: &mut Vec<String>, left_out: &[String], to: &mut Vec<(Module, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        let is_root = at.is_empty() && (name == "lib" || name == "main");
        if left_out.contains(&name) || is_root || (is_file && name == "mod") {
            continue;
        }
        at.push(name);
        let text = if is_file {
            fs::read_to_string(&path).unwrap()
        } else {
            fs::read_to_string(path.join("mod.rs")).unwrap_or_default()
        };
        if path.is_dir() {
            // Its module may be in a file beside it.
            let beside = fs::read_to_string(path.with_extension("rs")).unwrap_or_default();
            let tests = paths::test_modules(&format!("{text}\n{beside}"));
            collect(&path, at, &tests, to);
        }
        to.push((at.clone(), text));
        at.pop();
    }
}

/// A way from a module to itself, if there is one.
pub(super) fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    arrows
        .keys()
        .find_map(|from| follow(arrows, from, &mut Vec::new(), &mut done))
}

fn follow(
    arrows: &Arrows,
    from: &str,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(at) = way.iter().position(|module| module == from) {
        let mut circle = way[at..].to_vec();
        circle.push(from.to_string());
        return Some(circle);
    }
    if done.contains(from) {
        return None;
    }
    way.push(from.to_string());
    let found = arrows
        .get(from)
        .into_iter()
        .flatten()
        .find_map(|to| follow(arrows, to, way, done));
    way.pop();
    done.insert(from.to_string());
    found
}

#[test]
fn no_module_knows_itself_by_way_of_others() {
    let mut circles = Vec::new();
    for package in workspace() {
        let src = package.manifest_path.with_file_name("src");
        if !src.is_dir() {
            continue;
        }
        if let Some(circle) = circle(&arrows(&src)) {
            circles.push(format!("{}: {}", package.name, circle.join(" → ")));
        }
    }
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn no_file_of_the_guest_knows_itself_by_way_of_others() {
    let guest = files(&project::root().join("guest"));
    assert!(guest["driver::filter::route"].contains("driver::filter::purpose"));
    assert_eq!(circle(&guest), None);
}

#[test]
fn a_circle_is_found() {
    let arrows = |list: &[(&str, &[&str])]| -> Arrows {
        list.iter()
            .map(|(from, to)| {
                let to = to.iter().map(ToString::to_string).collect();
                ((*from).to_string(), to)
            })
            .collect()
    };
    let straight = arrows(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]);
    assert_eq!(circle(&straight), None);
    let around = arrows(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]);
    assert_eq!(circle(&around).unwrap(), ["b", "c", "b"]);
}

#[test]
fn arrows_are_read_from_sources() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path();
    for (name, text) in [
        (
            "lib.rs",
            "mod a; mod b; mod c; #[cfg(test)] mod testing; pub use c::Name;",
        ),
        ("a.rs", "use crate::b; #[cfg(test)] mod tests;"),
        ("a/tests.rs", "use crate::c;"),
        ("a/inner.rs", "use super::super::b::X; use crate::testing;"),
        ("b/mod.rs", "use crate::Name; use super::a::Y;"),
        ("c.rs", "// use crate::a;"),
        ("testing.rs", "use crate::a;"),
    ] {
        let file = src.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let found = arrows(src);
    let to = |module: &str| -> Vec<&str> {
        let found = found.get(module).into_iter().flatten();
        found.map(String::as_str).collect()
    };
    assert_eq!(to("a"), ["b"]);
    assert_eq!(to("b"), ["a", "c"]);
    assert_eq!(to("c"), [""; 0]);
    assert!(!found.contains_key("testing"));
}
