// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory. Vectors have the room that they were made with, and no more.

use crate::error::Result;
use std::ops::BitOr;
use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::Arc;

#[derive(Clone, Copy)]
pub struct Flags;

pub const GFP_KERNEL: Flags = Flags;
pub const GFP_NOWAIT: Flags = Flags;
pub const __GFP_NOWARN: Flags = Flags;

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, _: Self) -> Self {
        self
    }
}

pub struct KBox<T>(Box<T>);

impl<T> KBox<T> {
    pub fn new(value: T, _: Flags) -> Result<Self> {
        Ok(Self(Box::new(value)))
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

pub type KVVec<T> = KVec<T>;

pub struct KVec<T> {
    items: Vec<T>,
    room: usize,
}

/// There is no room for it.
#[derive(Debug)]
pub struct PushError<T>(pub T);

/// There is none.
#[derive(Debug)]
pub struct RemoveError;

impl<T> KVec<T> {
    pub fn with_capacity(room: usize, _: Flags) -> Result<Self> {
        let items = Vec::with_capacity(room);
        Ok(Self { items, room })
    }

    pub fn from_elem(item: T, count: usize, _: Flags) -> Result<Self>
    where
        T: Clone,
    {
        let items = vec![item; count];
        Ok(Self { items, room: count })
    }

    pub fn push_within_capacity(&mut self, item: T) -> Result<(), PushError<T>> {
        if self.items.len() == self.room {
            return Err(PushError(item));
        }
        self.items.push(item);
        Ok(())
    }

    pub fn pop(&mut self) -> Option<T> {
        self.items.pop()
    }

    pub fn remove(&mut self, at: usize) -> Result<T, RemoveError> {
        if at < self.items.len() {
            Ok(self.items.remove(at))
        } else {
            Err(RemoveError)
        }
    }

    pub fn clear(&mut self) {
        self.items.clear();
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

/// Puts what is made where it stays.
pub trait InPlaceInit<T> {
    fn pin_init(value: T, _: Flags) -> Result<Arc<T>> {
        Ok(Arc::new(value))
    }
}

impl<T> InPlaceInit<T> for Arc<T> {}
