//! Lists in pages and orders.

use std::sync::Arc;

use pilothouse_model::limits::LIST_PAGE_ENTRIES;

use crate::error::Error;

/// One page of a list; pages count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    number: usize,
    size: usize,
}

impl Page {
    pub const DEFAULT_SIZE: usize = 20;
    pub const MAX_SIZE: usize = LIST_PAGE_ENTRIES;

    /// `number` from 1 on, `size` in 1..=100.
    pub fn new(number: usize, size: usize) -> Result<Self, Error> {
        if number == 0 {
            return Err(Error::constraint("page", "pages count from 1"));
        }
        if !(1..=Self::MAX_SIZE).contains(&size) {
            return Err(Error::constraint("page_size", format!("1 to {}", Self::MAX_SIZE)));
        }
        Ok(Self { number, size })
    }

    /// A page past the end is empty.
    pub fn of<T>(self, all: Vec<T>) -> Listed<T> {
        let total = all.len();
        let skipped = (self.number - 1).saturating_mul(self.size);
        Listed { total, items: all.into_iter().skip(skipped).take(self.size).collect() }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self { number: 1, size: Self::DEFAULT_SIZE }
    }
}

/// A page of a list, and how long the whole list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    pub total: usize,
    pub items: Vec<T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    #[default]
    CreatedAt,
    Name,
    Type,
    Login,
}

/// By a key, ties by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    pub key: SortKey,
    pub descending: bool,
}

impl Order {
    /// Reads `KEY_asc` or `KEY_desc` where the key is one of `keys`; the first of them, ascending,
    /// where nothing is said.
    pub fn parse(text: &str, keys: &[SortKey]) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self { key: keys.first().copied().unwrap_or_default(), descending: false });
        }
        let read = || {
            let (name, direction) = text.rsplit_once('_')?;
            let key = keys.iter().copied().find(|k| k.as_str() == name)?;
            match direction {
                "asc" => Some(Self { key, descending: false }),
                "desc" => Some(Self { key, descending: true }),
                _ => None,
            }
        };
        read().ok_or_else(|| Error::constraint("order_by", format!("{text:?} is no order of this list")))
    }
}

/// A record that is listed.
pub(crate) trait Listable {
    /// Its place in the order of making.
    fn number(&self) -> u64;
    /// What it is sorted by; empty for a key that it does not have.
    fn sorted_by(&self, key: SortKey) -> &str;
}

impl<T> Listed<T> {
    /// A page of the records that are kept, in an order; what is on it is `shown`.
    pub(crate) fn of<'a, R: Listable + 'a>(
        kept: impl Iterator<Item = &'a Arc<R>>,
        order: Order,
        page: Page,
        shown: impl Fn(&R) -> T,
    ) -> Self {
        let mut kept: Vec<&Arc<R>> = kept.collect();
        kept.sort_by(|a, b| {
            let ordering = a.sorted_by(order.key).cmp(b.sorted_by(order.key));
            let ordering = ordering.then_with(|| a.number().cmp(&b.number()));
            if order.descending { ordering.reverse() } else { ordering }
        });
        let Listed { total, items } = page.of(kept);
        Self { total, items: items.into_iter().map(|record| shown(record)).collect() }
    }
}

impl SortKey {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CreatedAt => "created_at",
            Self::Name => "name",
            Self::Type => "type",
            Self::Login => "login",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_in_empty_ones() {
        let page = |number, size| Page::new(number, size).map(|p| p.of((0..5).collect::<Vec<_>>()).items);
        assert_eq!(page(1, 2).unwrap(), [0, 1]);
        assert_eq!(page(3, 2).unwrap(), [4]);
        assert_eq!(page(4, 2).unwrap(), [0; 0]);
        assert_eq!(page(usize::MAX, 100).unwrap(), [0; 0]);
        assert!(page(0, 2).is_err() && page(1, 0).is_err() && page(1, 101).is_err());
    }

    #[test]
    fn orders_are_read_by_name() {
        let keys = [SortKey::CreatedAt, SortKey::Name];
        assert_eq!(Order::parse("", &keys).unwrap(), Order::default());
        let by_name = Order::parse("name_desc", &keys).unwrap();
        assert_eq!((by_name.key, by_name.descending), (SortKey::Name, true));
        for bad in ["name", "type_asc", "name_up", "_asc"] {
            assert!(Order::parse(bad, &keys).is_err(), "{bad}");
        }
    }
}
