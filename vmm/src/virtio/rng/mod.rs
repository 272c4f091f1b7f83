// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-rng: the host's random numbers (virtio 1.2, section 5.4).
