// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Option values such as `socket=/run/tmem/web1.sock,quota=4G`.

/// Settings of one option, each given once at most.
#[derive(Debug)]
pub struct Settings<'a> {
    given: Vec<(&'a str, &'a str)>,
}

impl<'a> Settings<'a> {
    /// Reads settings whose keys are all in `known`. `example` shows the user what
    /// a setting looks like.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn parse(text: &'a str, known: &[&str], example: &str) -> Result<Self, String> {
        let mut settings = Self { given: Vec::new() };
        for setting in text.split(',') {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| format!("'{setting}' is not a setting like {example}"))?;
            if !known.contains(&key) {
                let known = list(known);
                return Err(format!("there is no setting '{key}'; {known}"));
            }
            if settings.get(key).is_some() {
                return Err(format!("the setting '{key}' is given twice"));
            }
            settings.given.push((key, value));
        }
        Ok(settings)
    }

    /// The value of `key`, if it is given.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        let (_, value) = self.given.iter().find(|(given, _)| *given == key)?;
        Some(value)
    }

    /// The value of `key` as `parse` reads it, if it is given.
    ///
    /// # Errors
    /// What `parse` says.
    pub fn get_as<T, E>(
        &self,
        key: &str,
        parse: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        self.get(key).map(parse).transpose()
    }
}

/// "a, b and c are known".
fn list(known: &[&str]) -> String {
    match known {
        [] => "none is known".into(),
        [one] => format!("only {one} is known"),
        [first @ .., last] => format!("{} and {last} are known", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings<'_>, String> {
        Settings::parse(text, &["name", "quota", "weight"], "quota=2G")
    }

    #[test]
    fn settings_are_found_by_their_keys() {
        let settings = parse("quota=4G,name=a=b,weight=").unwrap();
        assert_eq!(settings.get("quota"), Some("4G"));
        assert_eq!(settings.get("name"), Some("a=b"));
        assert_eq!(settings.get("weight"), Some(""));
        let settings = parse("weight=7").unwrap();
        assert_eq!(settings.get("name"), None);
        assert_eq!(settings.get_as("weight", str::parse), Ok(Some(7)));
        assert!(settings.get_as("weight", str::parse::<bool>).is_err());
        assert_eq!(settings.get_as("quota", str::parse::<u32>), Ok(None));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "'' is not a setting like quota=2G"),
            ("4G", "'4G' is not a setting like quota=2G"),
            ("quota=4G,", "'' is not a setting like quota=2G"),
            (
                "size=4G",
                "there is no setting 'size'; name, quota and weight are known",
            ),
            ("name=a,name=a", "the setting 'name' is given twice"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
    }
}
