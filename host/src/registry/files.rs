// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files of settings: one for each virtual machine or share, named after it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use super::name::Name;

/// What a file's name ends with.
pub(super) const EXTENSION: &str = "toml";

/// Most bytes of a file: many times what all settings take.
const MOST: u64 = 64 << 10;

/// What the files `NAME.toml` in `dir` say, by name. A directory that is not there has
/// none.
///
/// # Errors
/// A sentence about the first mistake, with its file.
pub fn read<T: DeserializeOwned>(dir: &Path) -> Result<Vec<(Name, PathBuf, T)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look into '{}'", dir.display()));
        }
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot look into '{}'", dir.display()))?
            .path();
        if path.extension().is_some_and(|is| is == EXTENSION) {
            let one = one(&path).with_context(|| format!("'{}'", path.display()));
            let (name, said) = one?;
            found.push((name, path, said));
        }
    }
    found.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    Ok(found)
}

fn one<T: DeserializeOwned>(path: &Path) -> Result<(Name, T)> {
    let name = path.file_stem().and_then(|stem| stem.to_str());
    let name = name.context("the file's name, without its end, is no name")?;
    let name = name.parse().map_err(anyhow::Error::msg)?;
    let mut text = String::new();
    let file = File::open(path).context("cannot open the file")?;
    file.take(MOST + 1)
        .read_to_string(&mut text)
        .context("cannot read the file")?;
    ensure!(text.len() as u64 <= MOST, "the file is too long");
    let said = toml::from_str(&text).map_err(|error| sentence(&error, &text))?;
    Ok((name, said))
}

/// What is wrong, on one line.
fn sentence(error: &toml::de::Error, text: &str) -> anyhow::Error {
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => {
            let line = before.matches('\n').count().saturating_add(1);
            anyhow::anyhow!("line {line}: {message}")
        }
        None => anyhow::anyhow!("{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Said;
    use super::*;

    #[test]
    fn each_file_is_a_machine() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("web2.toml", "weight = 7");
        write("web1.toml", "");
        write("README", "not read");
        write("web3.toml~", "not read");
        let found = read::<Said>(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["web1", "web2"]);
        assert_eq!(found[1].2.weight, Some(7));
        assert!(read::<Said>(&dir.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str, text: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", read::<Said>(dir.path()).unwrap_err());
            fs::remove_file(path).unwrap();
            assert!(error.contains(name) && !error.contains('\n'), "{error}");
            error
        };
        let said = refused("web1.toml", b"weight = 7\nquoat = 8\n");
        assert!(said.contains("line 2") && said.contains("quoat"), "{said}");
        refused("web1.toml", b"[[");
        refused("web1.toml", b"\xff\xfe");
        refused("web1.toml", &[b'#'; 65 << 10]);
        assert!(refused("..toml", b"").contains("not a name"));
        assert!(refused("a b.toml", b"").contains("not a name"));
    }
}
