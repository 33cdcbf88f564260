//! A bounded map: beyond its bound the oldest entry is evicted.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A bounded map, shared by threads, with first-in-first-out eviction: losing an entry at any time is harmless, so uses
/// are not counted.
pub(super) struct BoundedMap<K, V> {
    most: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Eq + Hash + Clone, V> BoundedMap<K, V> {
    /// Creates an empty map with room for `most` entries.
    pub(super) fn new(most: usize) -> Self {
        Self { most, inner: Mutex::new(Inner { map: HashMap::new(), order: VecDeque::new() }) }
    }

    /// Replaces the value of a key by what `change` returns; `None` leaves the map as it is.
    pub(super) fn update(&self, key: &K, change: impl FnOnce(Option<&V>) -> Option<V>) {
        let mut inner = self.lock();
        let Some(value) = change(inner.map.get(key)) else { return };
        if inner.map.insert(key.clone(), value).is_none() {
            inner.order.push_back(key.clone());
            // `order` may hold keys that were removed since; they are dropped here too.
            while inner.order.len() > self.most {
                if let Some(oldest) = inner.order.pop_front() {
                    inner.map.remove(&oldest);
                }
            }
        }
    }

    /// Reads the value of a key.
    pub(super) fn get<T>(&self, key: &K, read: impl FnOnce(&V) -> T) -> Option<T> {
        self.lock().map.get(key).map(read)
    }

    /// Changes the value of a key in place.
    pub(super) fn change<T>(&self, key: &K, change: impl FnOnce(&mut V) -> T) -> Option<T> {
        self.lock().map.get_mut(key).map(change)
    }

    /// Removes an entry.
    pub(super) fn remove(&self, key: &K) -> Option<V> {
        self.lock().map.remove(key)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_nothing_grows() {
        let map = BoundedMap::new(2);
        for n in 0..1_000 {
            map.update(&n, |_| Some(n));
            if n % 2 == 0 {
                map.remove(&n);
            }
        }
        let inner = map.lock();
        assert!(inner.map.len() <= 2 && inner.order.len() <= 2);
        drop(inner);
        assert_eq!(map.get(&999, |n| *n), Some(999));
    }
}
