// SPDX-License-Identifier: GPL-2.0

//! Bindings that Kbuild makes with bindgen, beside those of the kernel crate.

// Which of these apply depends on the kernel's version, so they are not expected.
#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    reason = "generated code"
)]

include!("bindings_generated.rs");
