// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page memory that is not as a store left it: only what was written is believed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| virtio_tmem::testing::fuzz::page_memory(data));
