// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Queues of numbers, whose drivers kick just when their threads go.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use rustix::event::epoll;

use super::*;

/// How long anything may take before the test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// So soon do threads go here.
const SOON: Duration = Duration::from_millis(1);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "not within 30 s: {what}");
        std::thread::yield_now();
    }
}

fn spawn(name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Builder::new().name(name).spawn(body).map(drop)
}

/// A queue whose requests are numbers.
#[derive(Default)]
struct Ring {
    name: &'static str,
    /// Whether it runs, and how many requests were served.
    served: Mutex<(bool, u64)>,
    made: AtomicU64,
    kick: Mutex<Option<Arc<Kick>>>,
    /// Kicks that were taken.
    taken: AtomicU64,
    begun: AtomicU64,
}

#[derive(Clone, Default)]
struct Device(Arc<Ring>);

impl Work for Device {
    fn name(&self) -> String {
        self.0.begun.fetch_add(1, SeqCst);
        self.0.name.into()
    }

    fn kick(&self) -> Option<Arc<Kick>> {
        let runs = self.0.served.lock().unwrap().0;
        self.0.kick.lock().unwrap().clone().filter(|_| runs)
    }

    fn raised(&self) -> Option<&Kick> {
        None
    }

    fn work(&self, ready: Ready) -> bool {
        let mut served = self.0.served.lock().unwrap();
        if ready.kick {
            self.0.take();
        }
        if served.0 {
            served.1 = self.0.made.load(SeqCst);
        }
        true
    }
}

impl Ring {
    fn take(&self) {
        let mut count = [0; 8];
        if let Some(kick) = &*self.kick.lock().unwrap()
            && rustix::io::read(&**kick, &mut count).is_ok()
        {
            self.taken.fetch_add(u64::from_ne_bytes(count), SeqCst);
        }
    }

    /// The driver makes a request, and kicks.
    fn request(&self) {
        self.made.fetch_add(1, SeqCst);
        let kick = self.kick.lock().unwrap().clone().unwrap();
        rustix::io::write(&*kick, &1u64.to_ne_bytes()).unwrap();
    }

    fn is_served(&self) -> bool {
        self.served.lock().unwrap().1 == self.made.load(SeqCst)
    }

    fn set_running(&self, runs: bool) {
        self.served.lock().unwrap().0 = runs;
    }

    fn renew_kick(&self) {
        let file = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        *self.kick.lock().unwrap() = Some(Arc::new(Kick::new(file).unwrap()));
    }
}

/// A queue that runs.
fn ring(name: &'static str, spawn: Spawn) -> (Arc<Attendant<Device>>, Arc<Ring>) {
    let ring = Arc::new(Ring {
        name,
        ..Ring::default()
    });
    let attendant = Attendant::with(Device(ring.clone()), SOON, spawn).unwrap();
    ring.set_running(true);
    ring.renew_kick();
    attendant.changed();
    (attendant, ring)
}

fn is_idle(attendant: &Attendant<Device>) -> bool {
    !attendant.lock().is_busy
}

/// Threads of this process with a name.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|is| is.trim_end() == name).count()
}

#[test]
fn a_kick_at_any_moment_is_served_and_taken_once() {
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let (attendant, ring) = ring("kicked", spawn);
                for round in 1..=500 {
                    // Around the moment at which the thread goes.
                    let pause = Duration::from_micros(random.u64(0..2000));
                    std::thread::sleep(pause);
                    if round % 50 == 0 {
                        until("the thread has gone", || is_idle(&attendant));
                    }
                    ring.request();
                    until("the request is served", || ring.is_served());
                }
                until("all kicks are taken", || ring.taken.load(SeqCst) >= 500);
                assert_eq!(ring.taken.load(SeqCst), 500);
                assert!(ring.begun.load(SeqCst) > 10);
                attendant.end();
            });
        }
    });
}

#[test]
fn a_queue_may_stop_go_on_and_have_another_kick_at_any_moment() {
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let (attendant, ring) = ring("changed", spawn);
                for _ in 0..400 {
                    match random.u8(0..4) {
                        0 => {
                            ring.set_running(false);
                            attendant.changed();
                            let served = ring.served.lock().unwrap().1;
                            ring.request();
                            std::thread::sleep(Duration::from_micros(random.u64(0..1500)));
                            assert_eq!(ring.served.lock().unwrap().1, served);
                            ring.set_running(true);
                            attendant.changed();
                        }
                        1 => {
                            // The kick of the last is still in the old file.
                            ring.request();
                            ring.renew_kick();
                            attendant.changed();
                        }
                        _ => {
                            std::thread::sleep(Duration::from_micros(random.u64(0..1500)));
                            ring.request();
                        }
                    }
                    until("all is served", || ring.is_served());
                }
                attendant.end();
            });
        }
    });
}

#[test]
fn a_thread_that_cannot_be_had_is_had_later() {
    static REFUSED: AtomicU64 = AtomicU64::new(0);
    fn unwilling(name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        if REFUSED.fetch_add(1, SeqCst) % 3 < 2 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        spawn(name, body)
    }
    let (attendant, ring) = ring("refused", unwilling);
    for _ in 0..3 {
        ring.request();
        until("the request is served", || ring.is_served());
        until("the thread has gone", || is_idle(&attendant));
    }
    assert!(REFUSED.load(SeqCst) >= 9);
    attendant.end();
}

#[test]
fn idle_queues_have_no_threads() {
    let all: Vec<_> = (0..100).map(|_| ring("idle-queue", spawn)).collect();
    for _ in 0..2 {
        all.iter().for_each(|(_, ring)| ring.request());
        for (_, ring) in &all {
            until("the request is served", || ring.is_served());
        }
        until("threads have gone", || threads("idle-queue") == 0);
    }
    assert_eq!(threads("idle"), 1);
    let ids: BTreeSet<_> = all.iter().map(|(attendant, _)| attendant.id).collect();
    for (attendant, ring) in &all {
        attendant.end();
        ring.request();
    }
    until("threads have gone", || threads("idle-queue") == 0);
    assert!(all.iter().all(|(_, ring)| !ring.is_served()));
    assert_eq!(ids.len(), all.len());
}

#[test]
fn idle_queues_that_share_a_kick_are_all_served_and_do_not_spin() {
    const ROUNDS: u64 = 50;
    let all = [(); 3].map(|()| ring("shared", spawn));
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    for (attendant, ring) in &all {
        let same = event.try_clone().unwrap();
        *ring.kick.lock().unwrap() = Some(Arc::new(Kick::new(same).unwrap()));
        attendant.changed();
    }
    for _ in 0..ROUNDS {
        for (attendant, _) in &all {
            until("the thread has gone", || is_idle(attendant));
        }
        for (_, ring) in &all {
            ring.made.fetch_add(1, SeqCst);
        }
        rustix::io::write(&event, &1u64.to_ne_bytes()).unwrap();
        for (_, ring) in &all {
            until("the request is served", || ring.is_served());
        }
    }
    for (attendant, _) in &all {
        until("the thread has gone", || is_idle(attendant));
    }
    let taken: u64 = all.iter().map(|(_, ring)| ring.taken.load(SeqCst)).sum();
    assert_eq!(taken, ROUNDS);
    for (attendant, ring) in &all {
        // Once for each, and when it began and got another kick.
        assert!(ring.begun.load(SeqCst) <= ROUNDS + 4);
        attendant.end();
    }
}

/// A file that is readable when the first is, and that no epoll takes any more: it is nested
/// too deep.
fn nested(event: &OwnedFd) -> (OwnedFd, Vec<OwnedFd>) {
    let mut chain = vec![event.try_clone().unwrap()];
    loop {
        let outer = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let data = epoll::EventData::new_u64(0);
        match epoll::add(&outer, chain.last().unwrap(), data, epoll::EventFlags::IN) {
            Ok(()) => chain.push(outer),
            Err(_) => return (chain.pop().unwrap(), chain),
        }
    }
}

#[test]
fn a_queue_that_the_watcher_has_no_memory_for_keeps_its_thread() {
    let (attendant, ring) = ring("kept", spawn);
    until("it has begun", || ring.begun.load(SeqCst) == 1);
    until("the thread has gone", || is_idle(&attendant));
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let (file, _chain) = nested(&event);
    *ring.kick.lock().unwrap() = Some(Arc::new(Kick::new(file).unwrap()));
    attendant.changed();
    until("it is looked at", || ring.begun.load(SeqCst) == 2);
    for _ in 0..10 {
        // Longer than threads wait here.
        std::thread::sleep(10 * SOON);
        assert!(!is_idle(&attendant), "nobody waits for its kicks");
        ring.made.fetch_add(1, SeqCst);
        rustix::io::write(&event, &1u64.to_ne_bytes()).unwrap();
        until("the request is served", || ring.is_served());
        rustix::io::read(&event, &mut [0; 8]).unwrap();
    }
    assert_eq!(ring.begun.load(SeqCst), 2);
    // When there is some, it goes.
    ring.renew_kick();
    attendant.changed();
    until("the thread has gone", || is_idle(&attendant));
    ring.request();
    until("the request is served", || ring.is_served());
    attendant.end();
}

/// Does something until it is told to end.
struct Long {
    kick: Arc<Kick>,
    is_there: Arc<AtomicBool>,
    may_end: Arc<AtomicBool>,
    panics: bool,
}

impl Work for Long {
    fn name(&self) -> String {
        "long".into()
    }

    fn kick(&self) -> Option<Arc<Kick>> {
        Some(self.kick.clone())
    }

    fn raised(&self) -> Option<&Kick> {
        None
    }

    fn work(&self, _: Ready) -> bool {
        self.is_there.store(true, SeqCst);
        assert!(!self.panics, "meant");
        until("it may end", || self.may_end.load(SeqCst));
        self.is_there.store(false, SeqCst);
        true
    }
}

#[test]
fn the_end_waits_for_the_thread_however_that_ends() {
    for panics in [false, true] {
        let [is_there, may_end] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let file = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let work = Long {
            kick: Arc::new(Kick::new(file).unwrap()),
            is_there: is_there.clone(),
            may_end: may_end.clone(),
            panics,
        };
        let attendant = Attendant::with(work, SOON, spawn).unwrap();
        until("it works", || is_there.load(SeqCst));
        std::thread::scope(|scope| {
            let ending = scope.spawn(|| attendant.end());
            if !panics {
                until("it is to end", || attendant.lock().is_over);
                assert!(!ending.is_finished());
            }
            may_end.store(true, SeqCst);
            ending.join().unwrap();
        });
        assert_eq!(is_there.load(SeqCst), panics);
    }
}
