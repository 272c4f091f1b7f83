// SPDX-License-Identifier: GPL-2.0

//! Shares: pools that other guests have, too, one for each filter that has one.
//!
//! The host may not have a share, or take it away at any time: the filter's disk does without. It is
//! asked for again now and then, and whenever the device comes.

use super::{
    super::{
        area::SHARE_POOL,
        tuning, //
    },
    Manager,
    Session,
    State, //
};
use crate::{
    sys,
    wire::{
        Capabilities,
        PoolSpec,
        ShareId,
        Status, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
};

/// A share that a filter has.
pub(super) struct Share {
    id: ShareId,
    /// It has to be a verified one.
    is_verified: bool,
    /// The device that is there has given it, and has not been heard to take it away.
    is_had: bool,
    /// When it was last asked for.
    asked: Instant<Monotonic>,
}

/// What the device says to who asks for a share.
enum Answer {
    Given,
    Refused(Error),
}

/// The pool of the share at a place in the list.
fn pool_of(at: usize) -> u32 {
    SHARE_POOL + at as u32
}

impl State {
    /// The device that has given the shares is gone.
    pub(super) fn forget_shares(&mut self) {
        for share in self.shares.iter_mut().flatten() {
            share.is_had = false;
        }
    }

    /// The share that has `pool`, if there is one.
    fn share_in(&mut self, pool: u32) -> Option<&mut Option<Share>> {
        let at = usize::try_from(pool.checked_sub(SHARE_POOL)?).ok()?;
        self.shares.get_mut(at)
    }
}

impl Manager {
    /// Takes a pool for a share; the device that is there, if there is one, has given it. Gives the
    /// pool's number. Requests may be sent after [`Self::begin_share`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::uapi::ATTACH_SHARED`] that have to do with the host.
    pub(crate) fn open_share(self: &Arc<Self>, id: ShareId, is_verified: bool) -> Result<u32> {
        let mut state = self.state.lock();
        // One put of a page is under way at a time, and that is what a filter sees to.
        if state.shares.iter().flatten().any(|share| share.id == id) {
            return Err(sys::not_unique());
        }
        let free = state.shares.iter().position(Option::is_none);
        let at = free.ok_or(ENOSPC)?;
        let settled = state.session.as_ref().filter(|session| session.is_settled);
        let is_had = match settled {
            None => false,
            Some(session) => match self.ask(session, pool_of(at), id, is_verified) {
                Ok(Answer::Given) => true,
                Ok(Answer::Refused(err)) => return Err(err),
                // It is away, or busy.
                Err(_) => return Err(EAGAIN),
            },
        };
        if let Some(slot) = state.shares.get_mut(at) {
            *slot = Some(Share {
                id,
                is_verified,
                is_had,
                asked: Instant::now(),
            });
        }
        Ok(pool_of(at))
    }

    /// The filter with the share in `pool` is attached: its area becomes ready, if the device has given
    /// the share.
    pub(crate) fn begin_share(&self, pool: u32) {
        let mut state = self.state.lock();
        let share = state.share_in(pool).and_then(|slot| slot.as_ref());
        if share.is_some_and(|share| share.is_had) {
            self.set_share_ready(pool);
        }
    }

    /// Nobody has the share in `pool` any more, and nothing is under way there. Its pages stay: they are
    /// others', too.
    pub(crate) fn close_share(self: &Arc<Self>, pool: u32) {
        let mut state = self.state.lock();
        if let Some(slot) = state.share_in(pool) {
            *slot = None;
        }
        if let Some(session) = state.session.as_ref().filter(|session| session.is_settled) {
            // If this fails, the id is found to be taken when it is used again.
            let _ = self.engine.destroy_pool(&session.queues, pool);
        }
    }

    /// Asks the device that has come for all shares. May be repeated.
    ///
    /// # Errors
    ///
    /// When it does not answer. That it refuses is none.
    pub(super) fn settle_shares(self: &Arc<Self>, state: &mut State) -> Result {
        let session = state.session.as_ref().ok_or(ENODEV)?;
        for (at, share) in state.shares.iter_mut().enumerate() {
            if let Some(share) = share.as_mut() {
                self.ask_for(session, pool_of(at), share)?;
            }
        }
        Ok(())
    }

    /// Asks again for shares that the device has taken away, or did not give. To be done now and then.
    pub(crate) fn ask_again(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let State {
            session, shares, ..
        } = &mut *state;
        let Some(session) = session.as_ref().filter(|session| session.is_settled) else {
            return;
        };
        for (at, share) in shares.iter_mut().enumerate() {
            let Some(share) = share.as_mut() else {
                continue;
            };
            let is_due = share.asked.elapsed() >= Delta::from_millis(tuning::SHARE_MS);
            let is_wanting = self.is_share_wanting(pool_of(at));
            if is_wanting
                && (share.is_had || is_due)
                && self.ask_for(session, pool_of(at), share).is_err()
            {
                // The device goes away, or is slow: some other time.
                return;
            }
        }
    }

    /// Asks for a share. Its area becomes ready if the device gives it.
    fn ask_for(self: &Arc<Self>, session: &Session, pool: u32, share: &mut Share) -> Result {
        let before = share.is_had;
        share.asked = Instant::now();
        let answer = self.ask(session, pool, share.id, share.is_verified)?;
        share.is_had = matches!(answer, Answer::Given);
        if share.is_had {
            self.set_share_ready(pool);
        } else if before {
            pr_warn!(
                "the host does not have share {:032x} for this machine any more: its disk does without\n",
                u128::from_be_bytes(share.id),
            );
        }
        Ok(())
    }

    /// Asks for a share.
    ///
    /// # Errors
    ///
    /// When the device does not answer.
    fn ask(
        self: &Arc<Self>,
        session: &Session,
        pool: u32,
        id: ShareId,
        is_verified: bool,
    ) -> Result<Answer> {
        let caps = session.config.capabilities;
        let mut needed = Capabilities::SHARED_POOLS.union(Capabilities::EPHEMERAL);
        let mut spec = PoolSpec::shared(id);
        if is_verified {
            needed = needed.union(Capabilities::VERIFIED_SHARES);
            spec = PoolSpec::verified(id);
        }
        if !caps.contains(needed) {
            return Ok(Answer::Refused(sys::not_there()));
        }
        if pool >= session.config.max_pools {
            return Ok(Answer::Refused(ENOSPC));
        }
        Ok(
            match self.engine.ask_for_share(&session.queues, pool, spec)? {
                Status::OK | Status::EXISTS => Answer::Given,
                Status::NO_SHARE => Answer::Refused(EACCES),
                Status::NO_MEMORY => Answer::Refused(ENOMEM),
                Status::TOO_MANY_POOLS => Answer::Refused(ENOSPC),
                status => {
                    pr_err!(
                        "the device refused share {:032x} with status {:#x}\n",
                        u128::from_be_bytes(id),
                        status.0
                    );
                    Answer::Refused(EIO)
                }
            },
        )
    }

    /// The device has given the share in `pool`.
    fn set_share_ready(&self, pool: u32) {
        self.for_share(pool, |area| area.set_ready(true));
    }

    /// Whether the share in `pool` is of use to a filter that does not have it.
    fn is_share_wanting(&self, pool: u32) -> bool {
        let mut is_wanting = false;
        self.for_share(pool, |area| {
            let is_over = area.cache(|blocks| blocks.share_end().is_some()) == Some(true);
            is_wanting |= !area.is_ready() && !is_over;
        });
        is_wanting
    }

    fn for_share(&self, pool: u32, mut work: impl FnMut(&super::super::area::Area)) {
        // The first is the swap disk's.
        let mut at = 1;
        while let Some(area) = self.engine.area(at) {
            if area.pool == pool {
                work(&area);
            }
            at += 1;
        }
    }
}
