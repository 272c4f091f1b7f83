// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio-tmem daemon: one store, many virtual machines.

fn main() {}
