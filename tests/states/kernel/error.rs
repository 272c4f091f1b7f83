// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Error numbers.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(i32);

pub type Result<T = (), E = Error> = core::result::Result<T, E>;

pub const EINTR: Error = Error(4);
pub const EIO: Error = Error(5);
pub const EAGAIN: Error = Error(11);
pub const ENOMEM: Error = Error(12);
const EINVAL: Error = Error(22);

impl From<core::num::TryFromIntError> for Error {
    fn from(_: core::num::TryFromIntError) -> Self {
        EINVAL
    }
}
