//! Sorting for a module that is loaded into every worker: the standard library's sorts are ten kilobytes of code for
//! each type that is sorted, a heap is one.

use std::collections::BinaryHeap;

/// Sorts by a key; equal keys stay in order.
pub(crate) fn by_key<T, K: Ord>(items: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let keyed = core::mem::take(items).into_iter().enumerate();
    let heap: BinaryHeap<Keyed<T, K>> =
        keyed.map(|(place, item)| Keyed { key: (key(&item), place), item }).collect();
    *items = heap.into_sorted_vec().into_iter().map(|keyed| keyed.item).collect();
}

struct Keyed<T, K> {
    key: (K, usize),
    item: T,
}

impl<T, K: Ord> Ord for Keyed<T, K> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<T, K: Ord> PartialOrd for Keyed<T, K> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, K: Ord> PartialEq for Keyed<T, K> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T, K: Ord> Eq for Keyed<T, K> {}

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
