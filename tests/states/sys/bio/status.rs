// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How bios end.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    IoError,
    Again,
    NoSpace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(u8);

impl Status {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const NO_SPACE: Self = Self(3);
    pub(crate) const TRANSPORT: Self = Self(4);
    pub(crate) const IO_ERROR: Self = Self(10);
    pub(crate) const AGAIN: Self = Self(12);

    pub(crate) fn is_ok(self) -> bool {
        self == Self::OK
    }

    pub(crate) fn is_again(self) -> bool {
        self == Self::TRANSPORT
    }

    pub(crate) fn is_no_space(self) -> bool {
        self == Self::NO_SPACE
    }
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::OK,
            Outcome::IoError => Self::IO_ERROR,
            Outcome::Again => Self::TRANSPORT,
            Outcome::NoSpace => Self::NO_SPACE,
        }
    }
}
