// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use serde_json::json;
use tmem_store::{Client, ClientConfig, Get, Store, StoreConfig};
use uuid::Uuid;

use super::{About, Image, Totals, write};
use crate::registry::Refusal;

fn client(quota: u64) -> Client {
    let store = Store::new(StoreConfig::with_limit(64 << 20)).unwrap();
    store.add_client(ClientConfig::new("web1", quota)).unwrap()
}

fn about() -> About {
    About {
        personality: "tmem".into(),
        instance: Uuid::from_u128(7),
        pools: vec![
            super::Pool {
                id: 0,
                ephemeral: false,
            },
            super::Pool {
                id: 9,
                ephemeral: true,
            },
        ],
        driver: json!([null, { "used": 5 }]),
    }
}

fn page(index: u64) -> [u8; 4096] {
    std::array::from_fn(|at| (at as u64 * index % 251) as u8)
}

fn image(pages: u64) -> (Vec<u8>, Totals) {
    let client = client(32 << 20);
    about().make_pools(&client).unwrap();
    for index in 0..pages {
        let pool = client.pool(if index % 3 == 0 { 9 } else { 0 }).unwrap();
        assert!(pool.put(&[1; 24], index, &page(index)).result.is_ok());
    }
    let mut bytes = Vec::new();
    let (totals, end) = write(&mut bytes, &about(), &client).unwrap();
    bytes.extend(end);
    (bytes, totals)
}

fn read(bytes: &[u8], client: &Client) -> Result<Totals, Refusal> {
    let image = Image::open(bytes)?;
    assert_eq!(*image.about(), about());
    image.about().make_pools(client)?;
    image.restore(client, &|| true)
}

#[test]
fn what_is_written_is_read() {
    for pages in [0, 1, 500] {
        let (bytes, totals) = image(pages);
        assert_eq!((totals.pages, totals.missing), (pages, 0));
        assert_eq!(totals.bytes, bytes.len() as u64);
        let client = client(32 << 20);
        assert_eq!(read(&bytes, &client), Ok(totals));
        let mut got = [0; 4096];
        for index in 0..pages {
            let pool = client.pool(if index % 3 == 0 { 9 } else { 0 }).unwrap();
            assert_eq!(pool.get(&[1; 24], index, &mut got), Get::Hit);
            assert!(got == page(index), "{index}");
        }
    }
}

#[test]
fn each_byte_counts_and_none_may_be_missing() {
    let (bytes, _) = image(12);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let refused = read(&changed, &client(32 << 20)).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(_)), "{at}: {refused:?}");
        let refused = read(&bytes[..at], &client(32 << 20)).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(_)), "{at}: {refused:?}");
    }
}

#[test]
fn who_has_no_room_is_told_what_to_do() {
    let (bytes, _) = image(2000);
    let refused = read(&bytes, &client(256 << 10)).unwrap_err();
    assert!(refused.reason().contains("--quota"), "{refused:?}");
    let frozen = client(32 << 20);
    about().make_pools(&frozen).unwrap();
    frozen.set_frozen(true);
    let refused = read(&bytes, &frozen).unwrap_err();
    assert!(refused.reason().contains("thaw"), "{refused:?}");
}

#[test]
fn another_version_and_what_is_no_image_are_told_apart() {
    let (mut bytes, _) = image(1);
    bytes[8] = 2;
    let refused = read(&bytes, &client(1 << 20)).unwrap_err();
    assert!(refused.reason().contains("version 2"), "{refused:?}");
    let refused = read(b"GET / HTTP/1.1\r\n\r\n", &client(1 << 20)).unwrap_err();
    assert!(refused.reason().contains("no image"), "{refused:?}");
}

#[test]
fn it_ends_when_it_is_not_to_go_on() {
    let (bytes, _) = image(100);
    let image = Image::open(&*bytes).unwrap();
    let client = client(32 << 20);
    about().make_pools(&client).unwrap();
    let refused = image.restore(&client, &|| false).unwrap_err();
    assert!(matches!(refused, Refusal::Failed(_)));
}
