// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A store whose pages are with a node.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use tmem_remote::{RemoteError, Settings, Valkey};
use tmem_store::{
    Client, ClientConfig, Compressor, Demoter, PAGE_SIZE, Page, Pool, PoolConfig, PoolKind, Store,
    StoreConfig,
};

const OBJECT: [u8; 24] = [7; 24];

/// Memory of the store.
const MEMORY: u64 = 4 << 20;

/// No test waits longer for what has to happen.
pub(crate) const PROMPT: Duration = Duration::from_secs(60);

/// Opens a cluster of which one knows these nodes.
pub(crate) fn open(ports: &[u16]) -> Result<Valkey, RemoteError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nodes: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let (process, nth) = (std::process::id(), NEXT.fetch_add(1, Relaxed));
    // Each of its own: tests run side by side.
    let url = format!(
        "valkey://{}?namespace=peer-{process}-{nth}&timeout=1",
        nodes.join(",")
    );
    let settings = Settings::parse(&url, |_| Err("no size".into())).unwrap();
    Valkey::open(&settings, 1 << 30, || ())
}

/// Pages, most of which are remote.
pub(crate) struct Pages {
    pool: Pool,
    count: Cell<u64>,
    client: Option<Client>,
    background: Option<(Demoter, Compressor)>,
    store: Store,
}

impl Pages {
    pub(crate) fn open(port: u16) -> Self {
        let remote = open(&[port]).unwrap();
        let store = Store::new(StoreConfig::with_limit(MEMORY).with_spill(remote)).unwrap();
        let client = store.add_client(ClientConfig::new("vm", 1 << 30)).unwrap();
        client
            .create_pool(0, PoolConfig::new(PoolKind::Persistent))
            .unwrap();
        let pages = Self {
            pool: client.pool(0).unwrap(),
            count: Cell::new(0),
            client: Some(client),
            background: None,
            store,
        };
        pages.with_background()
    }

    fn with_background(mut self) -> Self {
        let demoter = self.store.start_demoter_with(|| ()).unwrap();
        self.background = Some((demoter, self.store.start_compressor().unwrap()));
        self
    }

    /// Has pages stay where they are.
    pub(crate) fn rest(&mut self) {
        self.background = None;
    }

    pub(crate) fn remote(&self) -> u64 {
        self.store.stats().spilled_pages
    }

    pub(crate) fn write_errors(&self) -> u64 {
        self.store.stats().spill_write_errors
    }

    /// Puts a page more; whether it was taken.
    pub(crate) fn put(&self) -> bool {
        let index = self.count.get();
        let is_put = self.pool.put(&OBJECT, index, &page(index)).result.is_ok();
        self.count.set(index + u64::from(is_put));
        is_put
    }

    /// Puts so many pages more, all of which are taken sooner or later.
    pub(crate) fn put_all(&self, count: u64) {
        let begin = Instant::now();
        for _ in 0..count {
            while !self.put() {
                assert!(begin.elapsed() < PROMPT, "no put is taken any more");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Reads so many pages: how many could be read, and how many not. None may be another one. What is
    /// read more than once comes back to memory.
    pub(crate) fn read(&self, first: u64, count: u64) -> (u64, u64) {
        let (mut right, mut failed) = (0, 0);
        let run = u32::try_from(count).unwrap();
        self.pool
            .get_run(&OBJECT, first, run, &mut |nth, found| match found {
                Ok(Some(found)) => {
                    let is_it = *found == page(first + u64::from(nth));
                    assert!(is_it, "page {nth} after {first} is another one");
                    right += 1;
                }
                Ok(None) => panic!("page {nth} after {first} is gone"),
                Err(_) => failed += 1,
            });
        assert_eq!(right + failed, count);
        (right, failed)
    }

    /// Removes all pages.
    pub(crate) fn drop_all(&mut self) {
        self.client = None;
    }

    /// Reads all pages; all are there.
    pub(crate) fn verify(&self) {
        let (right, failed) = self.read(0, self.count.get());
        assert_eq!((right, failed), (self.count.get(), 0));
    }
}

/// A page that compresses by half.
fn page(seed: u64) -> Page {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut page = [0; PAGE_SIZE];
    for byte in page.iter_mut().take(PAGE_SIZE / 2) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[0];
    }
    page
}
