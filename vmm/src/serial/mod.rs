// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Serial ports (16550) and what they are connected to.
