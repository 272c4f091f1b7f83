// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A hostile driver: rings, chains and memory of the fuzzer's making.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| virtio_tmem::testing::fuzz::chains(data));
