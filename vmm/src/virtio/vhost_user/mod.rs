// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-tmem from a daemon: the front end of vhost-user.
