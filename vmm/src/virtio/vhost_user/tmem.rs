// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio-tmem. Its configuration space stays as a driver has seen it (`dev-config-constant`),
//! and tells one set of pools from another.

use virtio_tmem::device::DeviceConfig;
use virtio_tmem::wire::{Config, DEVICE_ID, FIRST_REQUEST_QUEUE};

use super::offer::{Device, Fit, Knows, NEEDED, Offer, Told};
use super::others;

/// See the module.
#[derive(Debug)]
pub(super) struct Tmem;

impl Device for Tmem {
    fn id(&self) -> u32 {
        DEVICE_ID
    }

    fn queues(&self, request_queues: u16) -> u16 {
        request_queues.saturating_add(FIRST_REQUEST_QUEUE)
    }

    fn space_size(&self) -> usize {
        Config::SIZE
    }

    /// Its instance is that of no pools; a driver that has seen it is asked to reset the
    /// device when a daemon comes.
    fn placeholder(&self, request_queues: u16) -> Offer {
        show(&placeholder(request_queues))
    }

    fn offer(&self, told: &Told, request_queues: u16) -> Result<Offer, String> {
        let config = read(&told.space).ok_or("its configuration is too short")?;
        if config.magic != Config::MAGIC && others::is_plain_disk(told) {
            return Err(
                "it serves a plain disk there, not virtio-tmem; give its socket to --tmem-swap, \
                 or a virtual machine with personality=tmem to --tmem"
                    .to_owned(),
            );
        }
        of_daemon(&config, told.queues, request_queues).map(|config| show(&config))
    }

    fn fit(&self, driver: Knows<'_>, daemon: &Offer) -> Fit {
        if driver.offer.space == daemon.space {
            return Fit::Good;
        }
        let instance = |offer: &Offer| read(&offer.space).map(|config| config.instance);
        let known = instance(driver.offer);
        Fit::Reset(if known == Some(Config::NO_BACK_END) {
            // To a driver that waited for the first daemon nothing happened.
            None
        } else if known == instance(daemon) {
            Some("has this machine's pages, but is configured otherwise")
        } else {
            Some("does not have this machine's pages")
        })
    }
}

fn read(space: &[u8]) -> Option<Config> {
    space.first_chunk().map(Config::decode)
}

fn show(config: &Config) -> Offer {
    let requests = u16::try_from(config.request_queues).unwrap_or(u16::MAX);
    Offer {
        features: NEEDED,
        space: config.encode().to_vec(),
        queues: requests.saturating_add(FIRST_REQUEST_QUEUE),
    }
}

fn placeholder(request_queues: u16) -> Config {
    DeviceConfig::new(String::new(), Config::NO_BACK_END)
        .with_swap_pages(0)
        .with_request_queues(request_queues.into())
        .to_wire()
}

/// The configuration space of a daemon that says `config` and has `rings`
/// queues in all, for a device with at most `request_queues`.
fn of_daemon(config: &Config, rings: u64, request_queues: u16) -> Result<Config, String> {
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

    fn told(config: &Config) -> Told {
        Told {
            features: NEEDED,
            space: config.encode().to_vec(),
            queues: 5,
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

    #[test]
    fn a_plain_disk_is_called_one() {
        let disk = Told {
            features: NEEDED | virtio_blk_tmem::space::FEATURES,
            space: virtio_blk_tmem::space::space(100, 2, false)
                .encode()
                .to_vec(),
            queues: 2,
        };
        // As many bytes as are asked for.
        let disk = Told {
            space: [disk.space, vec![0; 4]].concat(),
            ..disk
        };
        let sentence = Tmem.offer(&disk, 2).unwrap_err();
        assert!(sentence.contains("a plain disk there"), "{sentence}");
        assert!(sentence.contains("--tmem-swap"), "{sentence}");
        // What is neither is not called anything.
        let other = Told {
            features: NEEDED,
            ..disk
        };
        let sentence = Tmem.offer(&other, 2).unwrap_err();
        assert!(!sentence.contains("plain disk"), "{sentence}");
    }

    #[test]
    fn a_driver_is_to_reset_for_other_pools_or_queues() {
        let offer = |config: Config| Tmem.offer(&told(&config), 4).unwrap();
        let fit = |known: &Offer, daemon: Config| {
            let driver = Knows {
                offer: known,
                features: NEEDED,
                queues: 5,
            };
            Tmem.fit(driver, &offer(daemon))
        };
        let known = offer(config());
        assert_eq!(fit(&known, config()), Fit::Good);
        let others = Config {
            instance: [8; 16],
            ..config()
        };
        let words = "does not have this machine's pages";
        assert_eq!(fit(&known, others), Fit::Reset(Some(words)));
        let fewer = Config {
            request_queues: 1,
            ..config()
        };
        let Fit::Reset(Some(words)) = fit(&known, fewer) else {
            panic!("it goes on");
        };
        assert!(words.contains("configured otherwise"));
        assert_eq!(fit(&Tmem.placeholder(4), config()), Fit::Reset(None));
    }
}
