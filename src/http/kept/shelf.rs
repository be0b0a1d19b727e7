//! What is kept for the next who asks, with room for so much and no more: what was put there first makes room.

use ahash::AHashMap;
use slab::Slab;
use std::collections::VecDeque;

/// Under each key the last that came is the first that goes: of connections, the one most likely to be open still.
pub struct Shelf<T> {
    room: usize,
    items: Slab<Item<T>>,
    /// Their places by key, in the order in which they came.
    by_key: AHashMap<u64, Vec<usize>>,
    /// All of them in the order in which they came, and some that have gone.
    order: VecDeque<Ticket>,
    came: u64,
}

struct Item<T> {
    key: u64,
    came: u64,
    value: T,
}

/// Where something was put. Good until it goes; whatever comes to its place has another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticket {
    place: usize,
    came: u64,
}

impl<T> Shelf<T> {
    /// With room for so many.
    pub fn new(room: usize) -> Self {
        Shelf { room, items: Slab::new(), by_key: AHashMap::new(), order: VecDeque::new(), came: 0 }
    }

    /// Keeps this under this key, and gives away what has to go for it: itself, where there is no room at all.
    pub fn put(&mut self, key: u64, value: impl FnOnce(Ticket) -> T) -> Option<T> {
        self.came += 1;
        let came = self.came;
        let place = self.items.vacant_key();
        let ticket = Ticket { place, came };
        self.items.insert(Item { key, came, value: value(ticket) });
        self.by_key.entry(key).or_default().push(place);
        self.order.push_back(ticket);
        if self.items.len() > self.room { self.first() } else { None }
    }

    /// The last that came under this key.
    pub fn take(&mut self, key: u64) -> Option<T> {
        let place = self.by_key.get_mut(&key)?.pop()?;
        self.tidy();
        self.items.try_remove(place).map(|item| item.value)
    }

    /// What has this ticket, and its key, if it is here still.
    pub fn remove(&mut self, ticket: Ticket) -> Option<(u64, T)> {
        let key = self.items.get(ticket.place).filter(|item| item.came == ticket.came)?.key;
        let places = self.by_key.get_mut(&key)?;
        places.retain(|place| *place != ticket.place);
        self.tidy();
        self.items.try_remove(ticket.place).map(|item| (key, item.value))
    }

    fn first(&mut self) -> Option<T> {
        while let Some(ticket) = self.order.pop_front() {
            if let Some((_, gone)) = self.remove(ticket) {
                return Some(gone);
            }
        }
        None
    }

    /// Forgets tickets and keys of what has gone, once they are most of all.
    fn tidy(&mut self) {
        if self.order.len() < 2 * self.items.len() + 64 {
            return;
        }
        let items = &self.items;
        self.order.retain(|ticket| items.get(ticket.place).is_some_and(|item| item.came == ticket.came));
        self.by_key.retain(|_, places| !places.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<T> Shelf<T> {
        /// How many there are.
        pub fn len(&self) -> usize {
            self.items.len()
        }
    }

    fn put(shelf: &mut Shelf<u32>, key: u64, value: u32) -> Ticket {
        let mut at = Ticket::default();
        let gone = shelf.put(key, |ticket| {
            at = ticket;
            value
        });
        assert_eq!(gone, None);
        at
    }

    #[test]
    fn the_last_that_came_goes_first_and_each_to_its_own_key() {
        let mut shelf = Shelf::new(8);
        put(&mut shelf, 1, 10);
        put(&mut shelf, 1, 11);
        put(&mut shelf, 2, 20);
        assert_eq!((shelf.take(1), shelf.take(1), shelf.take(1)), (Some(11), Some(10), None));
        assert_eq!((shelf.take(2), shelf.take(3)), (Some(20), None));
    }

    #[test]
    fn what_came_first_makes_room() {
        let mut shelf = Shelf::new(2);
        put(&mut shelf, 1, 10);
        put(&mut shelf, 2, 20);
        // one that has been away came anew
        assert_eq!(shelf.take(1), Some(10));
        put(&mut shelf, 1, 10);
        assert_eq!(shelf.put(3, |_| 30), Some(20));
        assert_eq!(shelf.put(3, |_| 31), Some(10));
        assert_eq!((shelf.take(3), shelf.take(3), shelf.take(2)), (Some(31), Some(30), None));
        let mut none = Shelf::new(0);
        assert_eq!(none.put(1, |_| 1), Some(1));
        assert_eq!(none.take(1), None);
    }

    #[test]
    fn a_ticket_is_good_for_one_stay() {
        let mut shelf = Shelf::new(8);
        let first = put(&mut shelf, 1, 10);
        assert_eq!(shelf.take(1), Some(10));
        let second = put(&mut shelf, 1, 11);
        assert_eq!(first.place, second.place);
        assert_eq!(
            (shelf.remove(first), shelf.remove(second), shelf.remove(second)),
            (None, Some((1, 11)), None)
        );
        assert_eq!(shelf.take(1), None);
    }

    #[test]
    fn what_has_gone_leaves_nothing() {
        let mut shelf = Shelf::new(4);
        for n in 0..10_000 {
            let key = u64::from(n);
            put(&mut shelf, key, n);
            assert_eq!(shelf.take(key), Some(n));
        }
        assert!(shelf.order.len() < 100 && shelf.by_key.len() < 100 && shelf.items.is_empty());
        // and what is here keeps its turn
        for n in 0..5 {
            let gone = shelf.put(7, |_| n);
            assert_eq!(gone, (n == 4).then_some(0));
        }
        assert_eq!(shelf.take(7), Some(4));
    }
}
