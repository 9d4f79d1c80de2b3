//! Sorting for a module that is loaded into every worker: the standard library's sorts are ten kilobytes of code for
//! each type that is sorted, this is half of one.

use core::cmp::Ordering;
use std::collections::BinaryHeap;

/// Sorts by a key; equal keys stay in order.
pub(crate) fn by_key<T, K: Ord>(items: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let keys: Vec<K> = items.iter().map(key).collect();
    let order = order(keys.len(), &|one, other| keys.get(one).cmp(&keys.get(other)));
    let mut old: Vec<Option<T>> = core::mem::take(items).into_iter().map(Some).collect();
    items.extend(order.into_iter().filter_map(|place| old.get_mut(place)?.take()));
}

/// The places below `count` in order: the only part that is long, and the same for all types.
fn order(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let heap: BinaryHeap<Item<'_>> = (0..count).map(|place| Item { place, compare }).collect();
    heap.into_sorted_vec().into_iter().map(|item| item.place).collect()
}

struct Item<'c> {
    place: usize,
    compare: &'c dyn Fn(usize, usize) -> Ordering,
}

impl Ord for Item<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.compare)(self.place, other.place).then(self.place.cmp(&other.place))
    }
}

impl PartialOrd for Item<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item<'_> {}

#[cfg(test)]
mod tests {
    #[test]
    fn equal_keys_stay_in_order() {
        for words in [&[][..], &["a"], &["ccc", "a", "bb", "b", "aa", "c"], &["b", "a", "", "c"]] {
            let mut expected = words.to_vec();
            expected.sort_by_key(|word| word.len());
            let mut found = words.to_vec();
            super::by_key(&mut found, |word| word.len());
            assert_eq!(found, expected);
        }
    }
}
