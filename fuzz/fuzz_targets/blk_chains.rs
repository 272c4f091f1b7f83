// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A hostile driver of a disk: rings, chains and memory of the fuzzer's making.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| virtio_blk_tmem::testing::fuzz::blk_chains(data));
