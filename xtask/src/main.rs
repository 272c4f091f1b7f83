// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Everything a person or CI runs.

fn main() {}
