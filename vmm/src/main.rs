// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmem-vmm`: runs a virtual machine on the terminal.

fn main() {}
