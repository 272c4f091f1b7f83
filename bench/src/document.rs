// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Documents of which benchmarks make sections, and their pictures.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Puts `text` in the place of the section `name` of `density.md` in `docs`, and its picture
/// into a file beside it.
pub(crate) fn update(docs: &Path, name: &str, text: &str, picture: &str) -> Result<()> {
    update_section(&docs.join("density.md"), name, text)?;
    write(
        &docs.join("pictures").join(name).with_extension("svg"),
        picture,
    )
}

/// Puts `text` in the place of the section `name` of a document, which two comments enclose.
pub(crate) fn update_section(path: &Path, name: &str, text: &str) -> Result<()> {
    let read = || format!("cannot read {}", path.display());
    let document = fs::read_to_string(path).with_context(read)?;
    let document = replaced(&document, name, text)
        .with_context(|| format!("{} has no section {name}", path.display()))?;
    write(path, &document)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
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
