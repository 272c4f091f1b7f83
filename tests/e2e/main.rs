// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The end-to-end tests. `cargo xtask e2e` runs them.

mod boot;
