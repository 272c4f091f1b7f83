// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! As much of HTTP/1.1 as a program's own socket needs: one bounded request
//! per connection, one answer with a length; or else a stream, which is left to another thread.

mod peer;
mod request;
mod response;
mod serve;
mod stream;

use std::time::Duration;

pub use peer::{Guard, Peer};
pub use request::{Request, read};
pub use response::{JSON, Response};
pub use serve::{Listener, serve};
pub use stream::{Answer, Steady, TakeOver};

/// How long a client may take to send its request or to read the answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
