// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio-tmem device: wire format and request processing.

pub mod wire;
