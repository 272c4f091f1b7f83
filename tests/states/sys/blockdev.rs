// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Block devices.

/// Of the disk, past the filter.
pub(crate) struct Shadow;
