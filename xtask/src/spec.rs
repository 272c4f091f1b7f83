// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Holds the specification against the tests that it names.

use crate::project;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;

const SPEC: &str = "spec/virtio-tmem.md";

/// Names of requirements: `**[name]**` in the text.
fn requirements(spec: &str) -> Vec<&str> {
    spec.split("**[")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("]**")?.0))
        .collect()
}

/// Rows of the table at the end: requirement, file, test.
fn rows(spec: &str) -> Vec<(&str, &str, &str)> {
    spec.lines()
        .filter_map(|line| {
            let (name, proof) = line.strip_prefix("| ")?.split_once(" | `")?;
            let (file, test) = proof.strip_suffix("` |")?.split_once("`: `")?;
            Some((name, file, test))
        })
        .collect()
}

fn spec() -> String {
    fs::read_to_string(project::root().join(SPEC)).unwrap()
}

#[test]
fn every_requirement_has_one_name_and_a_test() {
    let spec = spec();
    let names = requirements(&spec);
    let unique: BTreeSet<_> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len(), "a name is used twice");
    let proved: BTreeSet<_> = rows(&spec).iter().map(|row| row.0).collect();
    assert_eq!(unique, proved, "the table and the text differ");
}

#[test]
fn every_test_that_the_specification_names_exists() {
    let spec = spec();
    let mut files = BTreeMap::new();
    for (name, file, test) in rows(&spec) {
        let text = files.entry(file).or_insert_with(|| {
            fs::read_to_string(project::root().join(file))
                .unwrap_or_else(|why| panic!("{name}: {file}: {why}"))
        });
        let function = format!("fn {test}(");
        let (before, _) = text
            .split_once(&function)
            .unwrap_or_else(|| panic!("{name}: {file} has no test {test}"));
        let last = before.rfind("#[test]").map(|at| before.len() - at);
        assert!(
            last.is_some_and(|distance| distance < 200),
            "{name}: {test} in {file} is no test"
        );
    }
}
