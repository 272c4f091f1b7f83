// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random histories of a disk against a model that is a plain array of sectors, with requests
//! cut into descriptors anywhere.

use proptest::collection::vec;
use proptest::prelude::*;
use virtio_blk_tmem::testing::{Layout, range, request};

use super::*;

const BLOCKS: u64 = 40;
const SECTORS: usize = 8 * BLOCKS as usize;

#[derive(Clone, Debug)]
enum Op {
    Read(usize, usize),
    Write(usize, usize, Content),
    Discard(Vec<(usize, usize)>),
    Zero(Vec<(usize, usize)>),
    Flush,
    Id,
    Quota(u64),
    Frozen(bool),
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Random(u64),
    Same(u8),
}

fn extent() -> impl Strategy<Value = (usize, usize)> {
    let whole = (0..BLOCKS as usize, 0..6_usize).prop_map(|(at, count)| (8 * at, 8 * count));
    let any = (0..SECTORS, 0..40_usize);
    prop_oneof![whole, any].prop_map(|(at, count)| (at, count.min(SECTORS - at)))
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        3 => any::<u64>().prop_map(Content::Random),
        2 => (0..3_u8).prop_map(Content::Same),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => extent().prop_map(|(at, count)| Op::Read(at, count)),
        8 => (extent(), content()).prop_map(|((at, count), what)| Op::Write(at, count, what)),
        2 => vec(extent(), 1..5).prop_map(Op::Discard),
        2 => vec(extent(), 1..5).prop_map(Op::Zero),
        1 => Just(Op::Flush),
        1 => Just(Op::Id),
        1 => (0..800_u64).prop_map(Op::Quota),
        1 => any::<bool>().prop_map(Op::Frozen),
    ]
}

fn layout() -> impl Strategy<Value = Layout> {
    let cuts = || vec(0..24_000_u32, 0..6);
    let near = || {
        vec(
            (0..6_u32, 0..3_u32).prop_map(|(at, off)| 16 + 4096 * at + off),
            0..4,
        )
    };
    (cuts(), near(), cuts(), near(), any::<bool>()).prop_map(|(r, r2, w, w2, indirect)| Layout {
        readable: [r, r2].concat(),
        writable: [w, w2].concat(),
        indirect,
    })
}

/// What each sector may have: several things after a write that failed, or a discard.
struct Model {
    sectors: Vec<Vec<u8>>,
    /// The content before, for sectors of which it is not known whether it was changed.
    older: Vec<Option<Vec<u8>>>,
}

impl Model {
    fn check(&mut self, at: usize, read: &[u8]) {
        for (nth, read) in read.chunks(512).enumerate() {
            let sector = at + nth;
            let is_new = self.sectors[sector] == read;
            let is_old = self.older[sector].as_deref() == Some(read);
            assert!(is_new || is_old, "sector {sector}");
            // From now on it is known.
            self.sectors[sector] = read.to_vec();
            self.older[sector] = None;
        }
    }

    fn set(&mut self, at: usize, bytes: &[u8], certain: bool) {
        for (nth, bytes) in bytes.chunks(512).enumerate() {
            let before = std::mem::replace(&mut self.sectors[at + nth], bytes.to_vec());
            self.older[at + nth] = (!certain).then_some(before);
        }
    }
}

fn list(ranges: &[(usize, usize)]) -> Vec<u8> {
    let all = ranges
        .iter()
        .map(|(at, count)| range(*at as u64, *count as u32, 0));
    all.collect::<Vec<_>>().concat()
}

fn run(history: &[(Op, Layout, usize)], swapspace: bool) {
    let mem = memory();
    let client = store().add_client(ClientConfig::new("vm", MIB)).unwrap();
    let mut config = DiskConfig::new("vm", BLOCKS * 4096).with_queues(3);
    if swapspace {
        config = config.with_swapspace(SwapHeader {
            label: "x".into(),
            uuid: [5; 16],
        });
    }
    let disk = Arc::new(Disk::new(client, config).unwrap());
    let mut drivers = [0, 1, 2].map(|nth| Driver::new(&mem, &disk, nth * TestDriver::AREA, 64));
    let first = drivers[0].read(0, SECTORS).data;
    let mut model = Model {
        sectors: first.chunks(512).map(<[u8]>::to_vec).collect(),
        older: vec![None; SECTORS],
    };
    let mut is_short = false;
    for (op, layout, queue) in history {
        let driver = &mut drivers[queue % 3];
        let mut call = |kind, sector: usize, sent: &[u8], room| {
            let sent = [&request(kind, sector as u64)[..], sent].concat();
            let answer = driver.call(&sent, room, layout);
            assert_eq!(answer.used as usize, room + 1);
            answer
        };
        match op {
            Op::Read(at, count) => {
                let answer = call(0, *at, &[], 512 * count);
                assert_eq!(answer.status, OK);
                model.check(*at, &answer.data);
            }
            Op::Write(at, count, what) => {
                let bytes = match what {
                    Content::Random(seed) => data(*seed, *count),
                    Content::Same(byte) => vec![*byte; 512 * count],
                };
                let status = call(1, *at, &bytes, 0).status;
                assert!(status == OK || is_short, "{status}");
                // Before it is written anew, what it has is not known any more.
                let known = drivers[queue % 3].read(*at as u64, *count).data;
                model.set(*at, &bytes, status == OK);
                model.check(*at, &known);
            }
            Op::Discard(ranges) => {
                assert_eq!(call(11, 0, &list(ranges), 0).status, OK);
                for (at, count) in ranges {
                    let known = drivers[queue % 3].read(*at as u64, *count).data;
                    for (nth, sector) in known.chunks(512).enumerate() {
                        let at = at + nth;
                        let is_first = swapspace && at < 8;
                        let is_gone = if is_first {
                            sector == &first[512 * at..][..512]
                        } else {
                            sector == [0; 512]
                        };
                        assert!(is_gone || model.sectors[at] == sector, "sector {at}");
                        model.sectors[at] = sector.to_vec();
                    }
                }
            }
            Op::Zero(ranges) => {
                let status = call(13, 0, &list(ranges), 0).status;
                assert!(status == OK || is_short);
                for (at, count) in ranges {
                    model.set(*at, &vec![0; 512 * count], status == OK);
                    let known = drivers[queue % 3].read(*at as u64, *count).data;
                    model.check(*at, &known);
                }
            }
            Op::Flush => assert_eq!(call(4, 0, &[], 0).status, OK),
            Op::Id => assert_eq!(call(8, 0, &[], 20).data[..2], *b"vm"),
            Op::Quota(kib) => {
                disk.set_quota(kib << 10);
                is_short = true;
            }
            Op::Frozen(frozen) => {
                disk.set_frozen(*frozen);
                is_short = true;
            }
        }
        assert!(pages(&disk) <= BLOCKS);
    }
    let all = drivers[1].read(0, SECTORS);
    assert_eq!(all.status, OK);
    model.check(0, &all.data);
    // No page is held for a block of zeros.
    let written = all.data.chunks(BLOCK).filter(|block| **block != [0; BLOCK]);
    assert!(pages(&disk) <= written.count() as u64 + u64::from(swapspace));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn histories_agree_with_the_model(
        history in vec((op(), layout(), 0..3_usize), 1..60),
        swapspace in any::<bool>(),
    ) {
        run(&history, swapspace);
    }
}
