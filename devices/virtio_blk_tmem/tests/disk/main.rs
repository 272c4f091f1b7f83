// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The disk as a driver sees it.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod corpus;
mod full;
mod hostile;
mod model;
mod partial;
mod replay;
mod requests;
mod space;
mod swap_header;

use std::sync::Arc;

use tmem_store::{ClientConfig, Store, StoreConfig};
use virtio_blk_tmem::testing::{Answer, Driver};
use virtio_blk_tmem::{Disk, DiskConfig, SwapHeader};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const MIB: u64 = 1 << 20;
const BLOCK: usize = 4096;
const OK: u8 = Answer::OK;
const IOERR: u8 = Answer::IOERR;
const UNSUPP: u8 = Answer::UNSUPP;

type Memory = GuestMemoryMmap<()>;
type TestDriver<'m> = Driver<'m, Memory>;

fn memory() -> Memory {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap()
}

fn store() -> Store {
    Store::new(StoreConfig::with_limit(64 * MIB)).unwrap()
}

/// A disk of so many blocks with a quota of 16 MiB.
fn disk(blocks: u64) -> Arc<Disk> {
    with_quota(blocks, 16 * MIB)
}

fn with_quota(blocks: u64, quota: u64) -> Arc<Disk> {
    let client = store().add_client(ClientConfig::new("vm", quota)).unwrap();
    let config = DiskConfig::new("vm", blocks * 4096).with_queues(2);
    Arc::new(Disk::new(client, config).unwrap())
}

fn driver<'m>(mem: &'m Memory, disk: &Arc<Disk>) -> TestDriver<'m> {
    Driver::new(mem, disk, 0, 256)
}

/// Data that does not compress, and that only this `seed` makes.
fn data(seed: u64, sectors: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; 512 * sectors];
    random.fill(&mut bytes);
    bytes
}

fn pages(disk: &Disk) -> u64 {
    disk.client().stats().persistent_pages
}

fn counted(disk: &Disk, family: &str, key: &str) -> u64 {
    let mut samples = disk.metrics().samples();
    let sample = samples.find(|sample| sample.family == family && sample.key == key);
    sample.unwrap().value
}
