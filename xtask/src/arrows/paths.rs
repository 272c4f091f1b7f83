// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which modules a source file names: a scanner for paths that begin with `crate` or
//! `super`, in `use` lines and elsewhere.

use std::collections::BTreeMap;

/// The code of a source file, without comments, texts and tests.
pub(super) fn code(text: &str) -> String {
    without_tests(&without_comments(text))
}

fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |at| at + 2)
        } else if next == '"' && !code.ends_with('\'') {
            quoted(rest)
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// Bytes of the text in quotes that `rest` begins with.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Leaves out what stands behind `#[cfg(test)]`: an item, up to its `;` or its last brace.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let mut depth = 0_u32;
        let end = after.char_indices().find_map(|(at, c)| match c {
            '{' => {
                depth += 1;
                None
            }
            '}' => {
                depth = depth.saturating_sub(1);
                (depth == 0).then_some(at + 1)
            }
            ';' if depth == 0 => Some(at + 1),
            _ => None,
        });
        rest = &after[end.unwrap_or(after.len())..];
    }
    kept.push_str(rest);
    kept
}

/// Modules that are there only for tests: `#[cfg(test)] mod name;`.
pub(super) fn test_modules(text: &str) -> Vec<String> {
    let code = without_comments(text);
    let declared = code.split("#[cfg(test)]").skip(1);
    declared
        .filter_map(|after| {
            let words = after.trim_start();
            let words = words.strip_prefix("pub(crate) ").unwrap_or(words);
            let name = words.strip_prefix("mod ")?;
            Some(name.split([';', ' ', '{']).next()?.to_string())
        })
        .collect()
}

/// The first names below the crate's root in `code` of the module `path`.
pub(super) fn names(code: &str, path: &[&str]) -> Vec<String> {
    let found = absolute(code, path).into_iter();
    let mut names: Vec<_> = found.filter_map(|path| path.into_iter().next()).collect();
    names.dedup();
    names
}

/// All paths in `code` of the module `path` that begin with `crate` or `super`, from the crate's
/// root on.
pub(super) fn absolute(code: &str, path: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let rest = &code[at + word.len()..];
        match word {
            "crate" => found.extend(below(rest)),
            // Only as the beginning of a path.
            "super" if !code[..at].ends_with("::") => {
                let mut up = 1;
                let mut rest = rest;
                while let Some(next) = rest.strip_prefix("::super") {
                    up += 1;
                    rest = next;
                }
                let Some(above) = path.len().checked_sub(up) else {
                    continue;
                };
                let above = path[..above].iter().map(|name| (*name).to_string());
                found.extend(
                    below(rest)
                        .into_iter()
                        .map(|path| above.clone().chain(path).collect()),
                );
            }
            _ => {}
        }
    }
    found
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = at + code[at..].find(is_word)?;
        let rest = &code[begin..];
        at = begin + rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        Some((begin, &code[begin..at]))
    })
}

/// The paths that `rest` goes on with after `::`: one, or those of a group.
fn below(rest: &str) -> Vec<Vec<String>> {
    let Some(rest) = rest.strip_prefix("::") else {
        return vec![Vec::new()];
    };
    if let Some(group) = rest.strip_prefix('{') {
        let parts = parts(group);
        let whole = parts.iter().map(|part| format!("::{}", part.trim()));
        return whole.flat_map(|part| below(&part)).collect();
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    if name.is_empty() {
        return vec![Vec::new()];
    }
    let name = std::iter::once(name.to_string());
    below(rest)
        .into_iter()
        .map(|path| name.clone().chain(path).collect())
        .collect()
}

/// The parts of a group, up to its end.
fn parts(group: &str) -> Vec<String> {
    let mut depth = 0_u32;
    let mut parts = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// Names at the crate's root that stand for something in a module: `pub use module::Name`.
pub(super) fn reexports(root: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in root.split("use ").skip(1) {
        let Some((path, _)) = line.split_once(';') else {
            continue;
        };
        let Some((module, names)) = path.split_once("::") else {
            continue;
        };
        for (_, name) in words(names) {
            found.insert(name.to_string(), module.trim().to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_wherever_they_are() {
        let text = r#"
            // use crate::comment::X;
            use crate::one::{A, B};
            use crate::{two, three::{C, four}, five as six};
            fn f() { crate::seven::g("crate::text", super::eight::h()); }
            #[cfg(test)]
            use crate::test_only;
            #[cfg(test)]
            mod tests { use crate::tests_only; mod x {} }
            pub(in crate::nine) struct S;
            pub(crate) struct T;
        "#;
        let names = names(&code(text), &["module"]);
        assert_eq!(
            names,
            ["one", "two", "three", "five", "seven", "eight", "nine"]
        );
    }

    #[test]
    fn one_goes_up_as_far_as_it_says() {
        let code = "use super::a::X; use super::super::b::Y; use super::super::super::c;";
        assert_eq!(names(code, &["module"]), ["a"]);
        assert_eq!(names(code, &["module", "inner"]), ["module", "b"]);
    }

    #[test]
    fn paths_are_whole() {
        let code =
            "use super::{a::{self, X}, b as c}; use crate::d::{e::Y, f}; g::<super::h::Z>();";
        let found = absolute(code, &["module", "inner"]);
        let found: Vec<_> = found.iter().map(|path| path.join("::")).collect();
        let module = |rest: &[&str]| rest.iter().map(|it| format!("module::{it}")).collect();
        let mut expected: Vec<String> = module(&["a::self", "a::X", "b"]);
        expected.extend(["d::e::Y", "d::f", "module::h::Z"].map(str::to_string));
        assert_eq!(found, expected);
    }

    #[test]
    fn modules_of_tests_are_known() {
        let text = "mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(test)] // why\nmod testing;";
        assert_eq!(test_modules(text), ["tests", "testing"]);
    }

    #[test]
    fn what_the_root_gives_on_stands_for_its_module() {
        let found = reexports("mod a; pub use a::{X, Y}; pub use b::Z;");
        assert_eq!(found.get("Y").unwrap(), "a");
        assert_eq!(found.get("Z").unwrap(), "b");
    }
}
