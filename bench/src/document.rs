// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `docs/density.md`, of which each benchmark makes a section, and its pictures.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Puts `text` in the place of the section `name` in the document in `docs`, which two
/// comments enclose; and its picture into a file beside it.
pub(crate) fn update(docs: &Path, name: &str, text: &str, picture: &str) -> Result<()> {
    let path = docs.join("density.md");
    let read = || format!("cannot read {}", path.display());
    let document = fs::read_to_string(&path).with_context(read)?;
    let document = replaced(&document, name, text)
        .with_context(|| format!("{} has no section {name}", path.display()))?;
    let picture_path = docs.join("pictures").join(name).with_extension("svg");
    for (path, text) in [(path, &*document), (picture_path, picture)] {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn replaced(document: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_others_stay() {
        let document = "a\n<!-- b -->\nold\n<!-- end of b -->\nc\n";
        let new = replaced(document, "b", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- b -->\nnew\n<!-- end of b -->\nc\n");
        assert_eq!(replaced(document, "c", "new\n"), None);
    }
}
