// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-blk on raw files and block devices (virtio 1.2, section 5.2).
