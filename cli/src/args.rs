// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Command lines whose mistakes are told in one sentence.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::exit;

/// Why there are no options: asked for help, or a mistake.
#[derive(Debug)]
pub struct Exit {
    /// The program's name.
    program: String,
    error: clap::Error,
}

impl Exit {
    /// Prints the help, or the mistake in one sentence.
    pub fn print(&self) -> ExitCode {
        if matches!(
            self.error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        ) {
            // Nothing can be said if stdout is closed.
            let _ = self.error.print();
            return ExitCode::SUCCESS;
        }
        eprintln!("{}: {} (see --help)", self.program, self.sentence());
        ExitCode::from(exit::USAGE)
    }

    /// The first paragraph of clap's message, on one line.
    fn sentence(&self) -> String {
        let text = self.error.render().to_string();
        let paragraph = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<_> = paragraph.split_whitespace().collect();
        let line = words.join(" ");
        line.strip_prefix("error: ")
            .map_or(line.clone(), Into::into)
    }
}

/// Reads the command line of the program that `T` describes.
///
/// # Errors
/// When it asks for help or is not understood.
pub fn parse<T: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<T, Exit> {
    parse_checked(args, |_| Ok(()))
}

/// As [`parse`], for options that can be right one by one and wrong together:
/// `check` says how, in a sentence.
///
/// # Errors
/// As [`parse`], or what `check` says.
pub fn parse_checked<T: Parser>(
    args: impl IntoIterator<Item = OsString>,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, Exit> {
    let exit = |error| Exit {
        program: T::command().get_name().to_owned(),
        error,
    };
    let options = T::try_parse_from(args).map_err(exit)?;
    match check(&options) {
        Ok(()) => Ok(options),
        Err(mistake) => Err(exit(
            T::command().error(ErrorKind::ValueValidation, mistake),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "some-program")]
    struct Options {
        /// A number.
        #[arg(long)]
        number: u32,
    }

    fn try_parse(args: &[&str]) -> Result<Options, Exit> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn a_mistake_is_one_sentence_of_the_program() {
        let options = try_parse(&["x", "--number", "7"]).unwrap();
        assert_eq!(options.number, 7);
        let exit = try_parse(&["x", "--number", "seven"]).unwrap_err();
        assert_eq!(exit.program, "some-program");
        let sentence = exit.sentence();
        assert!(sentence.starts_with("invalid value 'seven'"), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
        let exit = try_parse(&["x"]).unwrap_err();
        assert!(exit.sentence().contains("--number"), "{}", exit.sentence());
    }

    #[test]
    fn options_that_do_not_go_together_are_a_mistake_too() {
        let check = |options: &Options| match options.number {
            0..=7 => Ok(()),
            number => Err(format!("{number} is too many")),
        };
        let parse = |number: &str| {
            let args = ["x", "--number", number].map(OsString::from);
            parse_checked(args, check)
        };
        assert_eq!(parse("7").unwrap().number, 7);
        assert_eq!(parse("8").unwrap_err().sentence(), "8 is too many");
    }
}
