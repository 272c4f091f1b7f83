// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Virtual machines without front ends, for tests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tmem_store::{ClientConfig, Store, StoreConfig};
use virtio_tmem::device::MAX_POOLS;

use crate::device::{Has, Ids};
use crate::personality::VmDevice;
use crate::registry::{Connection, Door, Machine, Name, Settings, Shares};

/// Opens machines that nobody connects to.
#[derive(Clone, Debug)]
pub(crate) struct FakeDoor {
    pub(crate) store: Store,
    pub(crate) shares: Option<Arc<Shares>>,
    served: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
    /// Whoever ends a machine takes it.
    ends: Arc<Mutex<()>>,
}

impl Default for FakeDoor {
    fn default() -> Self {
        Self {
            store: Store::new(StoreConfig::with_limit(64 << 20)).unwrap(),
            shares: None,
            served: Arc::default(),
            refuses: Arc::default(),
            ends: Arc::default(),
        }
    }
}

impl FakeDoor {
    /// Names of those that were opened and not ended, in their order.
    pub(crate) fn served(&self) -> Vec<String> {
        self.served.lock().unwrap().clone()
    }

    /// Has no machine end until this is dropped.
    pub(crate) fn hold_ends(&self) -> MutexGuard<'_, ()> {
        self.ends.lock().unwrap()
    }

    /// Whether nothing can be opened.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, SeqCst);
    }
}

impl Door for FakeDoor {
    fn open(&self, name: &Name, settings: &Settings) -> anyhow::Result<Arc<dyn Machine>> {
        anyhow::ensure!(!self.refuses.load(SeqCst), "the door is closed");
        let quota = settings.quota.bytes(None);
        let client = ClientConfig::new(name.as_str(), quota)
            .with_max_pools(MAX_POOLS)
            .with_weight(settings.weight);
        let client = self.store.add_client(client)?;
        let ids = Ids {
            identity: [6; 16],
            instance: [7; 16],
        };
        let has = Has {
            shares: self.shares.as_ref().map(|shares| shares.of(name)),
            ..Has::default()
        };
        let device = crate::device::make(name.as_str(), settings, client, ids, 2, has)?;
        self.served.lock().unwrap().push(name.to_string());
        Ok(Arc::new(FakeMachine {
            name: name.to_string(),
            device,
            served: self.served.clone(),
            ends: self.ends.clone(),
        }))
    }

    fn socket(&self, name: &Name, _settings: &Settings) -> Option<PathBuf> {
        Some(format!("/run/tmem/{name}.sock").into())
    }
}

#[derive(Debug)]
struct FakeMachine {
    name: String,
    device: Arc<dyn VmDevice>,
    served: Arc<Mutex<Vec<String>>>,
    ends: Arc<Mutex<()>>,
}

impl Machine for FakeMachine {
    fn device(&self) -> &dyn VmDevice {
        &*self.device
    }

    fn connection(&self) -> Connection {
        Connection::default()
    }

    fn set_grace(&self, _grace: Duration) {}

    fn look_after(&self) {}

    fn end(&self) {
        let _ends = self.ends.lock().unwrap();
        self.served
            .lock()
            .unwrap()
            .retain(|name| *name != self.name);
    }
}
