// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Doubly linked lists through the blocks of a shard.

use super::dense::Dense;

/// Ends a list.
pub(super) const NIL: u32 = u32::MAX;

/// A block's neighbours in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    prev: u32,
    pub(super) next: u32,
}

impl Links {
    pub(super) const NONE: Self = Self {
        prev: NIL,
        next: NIL,
    };
}

/// A list: oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        first: NIL,
        last: NIL,
    };

    /// Adds a node that is in no such list at the end.
    pub(super) fn push<T>(
        &mut self,
        nodes: &mut Dense<T>,
        links: impl Fn(&mut T) -> &mut Links,
        number: u32,
    ) {
        let prev = std::mem::replace(&mut self.last, number);
        if let Some(node) = nodes.get_mut(number) {
            *links(node) = Links { prev, next: NIL };
        }
        match nodes.get_mut(prev) {
            Some(node) => links(node).next = number,
            None => self.first = number,
        }
    }

    /// Takes a node of this list out of it.
    pub(super) fn remove<T>(
        &mut self,
        nodes: &mut Dense<T>,
        links: impl Fn(&mut T) -> &mut Links,
        number: u32,
    ) {
        let Some(node) = nodes.get_mut(number) else {
            return;
        };
        let around = std::mem::replace(links(node), Links::NONE);
        self.join(nodes, links, around, around);
    }

    /// A node of this list has another number now.
    pub(super) fn renumber<T>(
        &mut self,
        nodes: &mut Dense<T>,
        links: impl Fn(&mut T) -> &mut Links,
        number: u32,
    ) {
        let Some(node) = nodes.get_mut(number) else {
            return;
        };
        let around = *links(node);
        let number = Links {
            prev: number,
            next: number,
        };
        self.join(nodes, links, around, number);
    }

    /// After `around.prev` comes `now.next`, and before `around.next` comes `now.prev`.
    fn join<T>(
        &mut self,
        nodes: &mut Dense<T>,
        links: impl Fn(&mut T) -> &mut Links,
        around: Links,
        now: Links,
    ) {
        match nodes.get_mut(around.prev) {
            Some(node) => links(node).next = now.next,
            None => self.first = now.next,
        }
        match nodes.get_mut(around.next) {
            Some(node) => links(node).prev = now.prev,
            None => self.last = now.prev,
        }
    }
}
