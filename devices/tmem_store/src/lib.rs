// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pools, index, page memory, codecs and quotas of transcendent memory.
