// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a change was not made.

/// Why a change was not made. Each says so in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What was said is wrong.
    Invalid(String),
    /// There is no such machine.
    Unknown(String),
    /// It does not go together with what is there.
    Conflict(String),
    /// The host could not do it.
    Failed(String),
}

impl Refusal {
    /// There is no machine of this name.
    pub(super) fn unknown(name: &str) -> Self {
        Self::Unknown(format!("there is no virtual machine {name:?}"))
    }

    /// The sentence.
    pub fn reason(&self) -> &str {
        match self {
            Self::Invalid(reason)
            | Self::Unknown(reason)
            | Self::Conflict(reason)
            | Self::Failed(reason) => reason,
        }
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}
