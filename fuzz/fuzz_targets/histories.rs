// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Histories of two VMs, every answer checked against a model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| virtio_tmem::testing::fuzz::histories(data));
