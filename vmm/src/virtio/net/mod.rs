// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-net on a tap (virtio 1.2, section 5.1).
