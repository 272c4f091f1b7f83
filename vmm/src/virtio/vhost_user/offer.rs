// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the driver is shown of the device.

use virtio_bindings::bindings::virtio_config::VIRTIO_F_IN_ORDER;
use virtio_tmem::device::DeviceConfig;
use virtio_tmem::wire::{Config, FIRST_REQUEST_QUEUE};

use crate::virtio::COMMON_FEATURES;

/// Features, whichever daemon comes: they cannot change once a driver has seen
/// them.
pub(super) const FEATURES: u64 = COMMON_FEATURES | 1 << VIRTIO_F_IN_ORDER;

/// The configuration space before the first daemon has come. Its instance is
/// that of no pools; a driver that has seen it is asked to reset the device
/// when a daemon comes.
pub(super) fn placeholder(request_queues: u16) -> Config {
    DeviceConfig::new(String::new(), Config::NO_BACK_END)
        .with_swap_pages(0)
        .with_request_queues(request_queues.into())
        .to_wire()
}

/// The configuration space of a daemon that says `config` and has `rings`
/// queues in all, for a device with at most `request_queues`.
///
/// # Errors
/// A sentence about why no driver could use it.
pub(super) fn of_daemon(
    config: &Config,
    rings: u64,
    request_queues: u16,
) -> Result<Config, String> {
    if config.magic != Config::MAGIC {
        return Err(format!(
            "it is no virtio-tmem daemon: its configuration begins with {:#x}, not {:#x}",
            config.magic,
            Config::MAGIC
        ));
    }
    if config.version != Config::VERSION {
        return Err(format!(
            "it speaks version {} of virtio-tmem, not {}; use a tmem-vmm and a daemon of one release",
            config.version,
            Config::VERSION
        ));
    }
    if !config.is_supported() || config.instance == Config::NO_BACK_END {
        return Err(format!("its configuration makes no sense: {config:?}"));
    }
    let rings = rings.saturating_sub(FIRST_REQUEST_QUEUE.into());
    let rings = u32::try_from(rings).unwrap_or(u32::MAX);
    let request_queues = config.request_queues.min(rings).min(request_queues.into());
    if request_queues == 0 {
        return Err("it has no request queue".to_owned());
    }
    Ok(Config {
        request_queues,
        ..*config
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            instance: [7; 16],
            ..placeholder(4)
        }
    }

    #[test]
    fn a_driver_accepts_the_placeholder() {
        assert!(placeholder(2).is_supported());
        assert_eq!(placeholder(2).request_queues, 2);
    }

    #[test]
    fn the_smallest_number_of_queues_is_shown() {
        let queues = |rings, wanted| of_daemon(&config(), rings, wanted).unwrap().request_queues;
        assert_eq!(queues(5, 2), 2, "as many as the device has");
        assert_eq!(queues(5, 63), 4, "as many as the daemon says");
        assert_eq!(queues(3, 63), 2, "as many as the daemon has");
        assert_eq!(queues(u64::MAX, 63), 4);
        assert!(of_daemon(&config(), 1, 2).is_err());
        assert!(of_daemon(&config(), 0, 2).is_err());
    }

    #[test]
    fn what_no_driver_could_use_is_refused() {
        let wrong = [
            Config {
                magic: 1,
                ..config()
            },
            Config {
                version: 2,
                ..config()
            },
            Config {
                page_shift: 13,
                ..config()
            },
            Config {
                max_run: 0,
                ..config()
            },
            Config {
                request_queues: 0,
                ..config()
            },
            Config {
                instance: Config::NO_BACK_END,
                ..config()
            },
        ];
        for config in wrong {
            assert!(of_daemon(&config, 5, 2).is_err(), "{config:?}");
        }
    }
}
