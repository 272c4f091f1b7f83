// SPDX-License-Identifier: GPL-2.0

//! What the bios of filters are for, and what is done when they end.

use super::{
    writeback::Writeback,
    Filter, //
};
use crate::{
    driver::{
        area::Area,
        ticket::Ticket, //
    },
    sys::{
        bio::{
            Bio,
            Op,
            Pages,
            Status, //
        },
        clone::{
            self,
            Copies, //
        },
        hook::Flight, //
    },
    wire::PageHash,
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// See the module. All but the first two are to the host, or to the disk and back to the filter.
pub(crate) enum Purpose {
    /// Past all filters.
    Outside(Bio),
    /// Through a filter.
    Through(Bio, Flight),
    /// Writes blocks of the disk.
    Write(Bio, Pages, Arc<Filter>, Flight),
    /// Reads blocks of the disk that may then be put.
    Fill(Bio, Pages, Ticket, Arc<Filter>, Flight),
    /// Reads blocks from the host; with a ticket, what it brings may be noted. With a name it is one, in
    /// a verified share.
    Get(Bio, Option<Ticket>, Option<PageHash>, Arc<Filter>, Flight),
    /// Gives a copy of a block to the host, which has a name in a verified share.
    Put(KBox<Copies>, Pages, Option<PageHash>, Arc<Filter>, Flight),
    /// Gives swapped out pages to the host.
    Out(Bio, Arc<Filter>, Flight, Flight),
    /// Reads swapped out pages from the host.
    In(Bio, Arc<Filter>, Flight),
    /// Writes pages back: reads them from the host, or writes them to the disk.
    Writeback(KBox<Copies>, usize, Arc<Writeback>, Flight),
}

impl Purpose {
    /// Where the pages are, for bios that go to the host.
    pub(crate) fn area(&self) -> Option<&Arc<Area>> {
        match self {
            Self::Get(_, _, _, filter, _)
            | Self::Put(_, _, _, filter, _)
            | Self::Out(_, filter, _, _)
            | Self::In(_, filter, _) => Some(&filter.area),
            Self::Writeback(_, _, writeback, _) => Some(writeback.area()),
            Self::Outside(..) | Self::Through(..) | Self::Write(..) | Self::Fill(..) => None,
        }
    }

    /// The name of the one page of a bio that goes to a verified share.
    pub(crate) fn name(&self) -> Option<PageHash> {
        match self {
            Self::Get(_, _, name, ..) | Self::Put(_, _, name, ..) => *name,
            _ => None,
        }
    }

    /// Whether there is nothing but to wait for a host that is away.
    pub(crate) fn may_wait(&self) -> bool {
        matches!(self, Self::In(..))
    }
}

impl clone::Purpose for Purpose {
    fn ended(self, status: Status) {
        match self {
            Self::Outside(original) => {
                read(&original, status);
                original.end_as(status);
            }
            Self::Through(original, flight) => {
                read(&original, status);
                original.end_as(status);
                drop(flight);
            }
            Self::Write(original, pages, filter, flight) => {
                filter.written(pages);
                original.end_as(status);
                land(filter, flight);
            }
            Self::Fill(original, pages, ticket, filter, flight) => {
                if status.is_ok() {
                    filter.fill(&original, pages, ticket);
                }
                original.end_as(status);
                land(filter, flight);
            }
            Self::Get(original, ticket, _, filter, flight) => {
                if status.is_ok() {
                    filter.got(&original, ticket);
                    original.end_as(status);
                } else {
                    filter.later(original);
                }
                land(filter, flight);
            }
            Self::Put(copies, pages, _, filter, flight) => {
                filter.put(copies, pages.index, status);
                land(filter, flight);
            }
            Self::Out(original, filter, out, flight) => {
                if status.is_ok() {
                    original.end_as(status);
                } else {
                    filter.refused(original, status.is_no_space());
                }
                drop(out);
                land(filter, flight);
            }
            Self::In(original, filter, flight) => {
                if status.is_again() {
                    filter.later(original);
                } else {
                    read(&original, status);
                    original.end_as(status);
                }
                land(filter, flight);
            }
            Self::Writeback(copies, at, writeback, flight) => {
                writeback.arrived(copies, at, status);
                drop(writeback);
                drop(flight);
            }
        }
    }
}

/// A part of a read has ended. Others may fail.
fn read(bio: &Bio, status: Status) {
    if let (true, Op::Read, Some(pages)) = (status.is_ok(), bio.op(), bio.pages()) {
        bio.mark_read(0, pages.count);
    }
}

/// Drops what a bio that has ended held, in this order: who waits for the flight may then take the
/// filter apart.
pub(super) fn land(filter: Arc<Filter>, flight: Flight) {
    drop(filter);
    drop(flight);
}
