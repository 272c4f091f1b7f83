// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What every byte of one file must be, by runs of bytes that one write made.

use crate::content;
use crate::content::Claim;
use crate::content::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A hole, or zeros that were asked for.
    Zeros,
    /// A content, from this byte of it on: another than the place in the file
    /// when it was copied there.
    Written(Name, u64),
}

impl Source {
    /// The same, `by` bytes on.
    fn skip(self, by: u64) -> Self {
        match self {
            Self::Zeros => Self::Zeros,
            Self::Written(name, at) => Self::Written(name, at + by),
        }
    }

    /// What this is, `by` bytes on; words for a message.
    fn describe(self, by: u64) -> String {
        match self.skip(by) {
            Self::Zeros => "zeros".into(),
            Self::Written(name, at) => Claim { name, at }.to_string(),
        }
    }
}

/// The model of one file.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// By the first byte: the byte after the last one, and where they come
    /// from. What is in none is zeros.
    written: BTreeMap<u64, (u64, Name, u64)>,
    length: u64,
}

/// The first byte that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its place.
    pub at: u64,
    /// Wrong bytes in what was read.
    pub bytes: usize,
    /// What must be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "at {:#x} (block {}): expected {}, found {}; {} bytes of this read are wrong",
            self.at,
            self.at / 4096,
            self.expected,
            self.found,
            self.bytes
        )
    }
}

impl Runs {
    /// The file's length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Runs that the file is made of.
    pub fn count(&self) -> usize {
        self.written.len()
    }

    /// `length` bytes at `at` are written; the file grows if it must.
    pub fn write(&mut self, at: u64, length: u64, source: Source) {
        let end = at + length;
        if length == 0 {
            return;
        }
        self.forget(at..end);
        if let Source::Written(name, from) = source {
            self.written.insert(at, (end, name, from));
        }
        self.length = self.length.max(end);
    }

    /// `range` reads as zeros; the length stays.
    pub fn punch(&mut self, range: Range<u64>) {
        self.forget(range);
    }

    /// The file is cut, or grows by zeros.
    pub fn truncate(&mut self, length: u64) {
        self.forget(length..u64::MAX);
        self.length = length;
    }

    /// Where the bytes of `range` come from, in order: how many, and where
    /// from.
    pub fn pieces(&self, range: Range<u64>) -> Vec<(u64, Source)> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        let before = self.written.range(..=at).next_back();
        let after = self
            .written
            .range(at.saturating_add(1)..range.end.max(at + 1));
        for (start, (end, name, from)) in before.into_iter().chain(after) {
            if *end <= at || *start >= range.end {
                continue;
            }
            if *start > at {
                pieces.push((start - at, Source::Zeros));
                at = *start;
            }
            let stop = (*end).min(range.end);
            let source = Source::Written(*name, *from).skip(at - start);
            pieces.push((stop - at, source));
            at = stop;
        }
        if at < range.end {
            pieces.push((range.end - at, Source::Zeros));
        }
        pieces
    }

    /// Copies `range` of `from` to `to` here.
    pub fn copy(&mut self, from: &Self, range: Range<u64>, to: u64) {
        let mut at = to;
        for (length, source) in from.pieces(range) {
            self.write(at, length, source);
            at += length;
        }
    }

    /// Compares `found`, which was read at `at`, with what must be there.
    ///
    /// # Errors
    /// The first wrong byte.
    pub fn verify(&self, at: u64, found: &[u8]) -> Result<(), Wrong> {
        let mut rest = found;
        let mut expected = Vec::new();
        let mut wrong: Option<Wrong> = None;
        for (length, source) in self.pieces(at..at + found.len() as u64) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at(length.min(rest.len()));
            let begin = found.len() - rest.len();
            rest = after;
            expected.clear();
            expected.resize(part.len(), 0);
            if let Source::Written(name, from) = source {
                content::fill(name, from, &mut expected);
            }
            if part == expected {
                continue;
            }
            let differs = part.iter().zip(&expected).map(|(a, b)| a != b);
            let bytes = differs.clone().filter(|differs| *differs).count();
            let first = differs.take_while(|differs| !differs).count();
            match &mut wrong {
                Some(wrong) => wrong.bytes += bytes,
                None => {
                    wrong = Some(Wrong {
                        at: at + (begin + first) as u64,
                        bytes,
                        expected: source.describe(first as u64),
                        found: content::describe(found, begin + first),
                    });
                }
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Makes `range` zeros.
    fn forget(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let before = self.written.range(..range.start).next_back();
        if let Some((start, (end, name, from))) = before.map(|(start, run)| (*start, *run))
            && end > range.start
        {
            self.written.insert(start, (range.start, name, from));
            if end > range.end {
                let from = from + (range.end - start);
                self.written.insert(range.end, (end, name, from));
            }
        }
        while let Some((start, (end, name, from))) = self
            .written
            .range(range.clone())
            .next()
            .map(|(start, run)| (*start, *run))
        {
            self.written.remove(&start);
            if end > range.end {
                let from = from + (range.end - start);
                self.written.insert(range.end, (end, name, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(generation: u64) -> Name {
        Name {
            seed: 1,
            file: 2,
            generation,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, u64),
        Punch(u64, u64),
        Truncate(u64),
        Copy(u64, u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..300_u64, 1..90_u64).prop_map(|(at, length)| Step::Write(at, length)),
            (0..300_u64, 1..90_u64).prop_map(|(at, length)| Step::Punch(at, length)),
            (0..400_u64).prop_map(Step::Truncate),
            (0..200_u64, 1..90_u64, 0..300_u64).prop_map(|(a, n, b)| Step::Copy(a, n, b)),
        ];
        proptest::collection::vec(step, 1..60)
    }

    /// Does `step` to the model and to plain bytes.
    fn apply(step: &Step, generation: u64, runs: &mut Runs, bytes: &mut Vec<u8>) {
        match *step {
            Step::Write(at, length) => {
                let end = usize::try_from(at + length).unwrap();
                bytes.resize(bytes.len().max(end), 0);
                let name = name(generation);
                content::fill(name, at, &mut bytes[usize::try_from(at).unwrap()..end]);
                runs.write(at, length, Source::Written(name, at));
            }
            Step::Punch(at, length) => {
                let end = (at + length).min(bytes.len() as u64);
                if at < end {
                    let range = usize::try_from(at).unwrap()..usize::try_from(end).unwrap();
                    bytes[range].fill(0);
                    runs.punch(at..end);
                }
            }
            Step::Truncate(length) => {
                bytes.resize(usize::try_from(length).unwrap(), 0);
                runs.truncate(length);
            }
            Step::Copy(from, length, to) => {
                let end = (from + length).min(bytes.len() as u64);
                if from < end {
                    let range = usize::try_from(from).unwrap()..usize::try_from(end).unwrap();
                    let part = bytes[range].to_vec();
                    let to_end = usize::try_from(to).unwrap() + part.len();
                    bytes.resize(bytes.len().max(to_end), 0);
                    bytes[usize::try_from(to).unwrap()..to_end].copy_from_slice(&part);
                    runs.copy(&runs.clone(), from..end, to);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_model_is_what_the_bytes_are(steps in steps()) {
            let (mut runs, mut bytes) = (Runs::default(), Vec::new());
            for (generation, step) in steps.iter().enumerate() {
                apply(step, generation as u64, &mut runs, &mut bytes);
                prop_assert_eq!(runs.length(), bytes.len() as u64);
                prop_assert_eq!(runs.verify(0, &bytes), Ok(()));
            }
        }

        #[test]
        fn one_wrong_bit_is_found_where_it_is(
            steps in steps(),
            place in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let (mut runs, mut bytes) = (Runs::default(), Vec::new());
            for (generation, step) in steps.iter().enumerate() {
                apply(step, generation as u64, &mut runs, &mut bytes);
            }
            prop_assume!(!bytes.is_empty());
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let wrong = runs.verify(0, &bytes).unwrap_err();
            prop_assert_eq!((wrong.at, wrong.bytes), (at as u64, 1));
        }
    }

    #[test]
    fn a_stale_block_is_named() {
        let mut runs = Runs::default();
        runs.write(0, 12288, Source::Written(name(17), 0));
        let mut old = vec![0; 12288];
        content::fill(name(17), 0, &mut old);
        runs.write(4096, 4096, Source::Written(name(19), 4096));
        let text = runs.verify(0, &old).unwrap_err().to_string();
        assert!(text.contains("block 1"), "{text}");
        assert!(
            text.contains("expected generation 19 of file 2 at 0x1010"),
            "{text}"
        );
        assert!(
            text.contains("found generation 17 of file 2 at 0x1010"),
            "{text}"
        );
    }

    #[test]
    fn what_was_written_in_a_hole_is_found_out() {
        let mut runs = Runs::default();
        runs.truncate(8192);
        let mut found = vec![0; 8192];
        content::fill(name(3), 0, &mut found[4096..]);
        let wrong = runs.verify(0, &found).unwrap_err();
        assert_eq!(wrong.expected, "zeros");
        assert!(wrong.found.contains("generation 3"), "{}", wrong.found);
    }
}
