//! Label sets cut down to some names.

use hashbrown::HashMap;
use pilothouse_model::Labels;

use crate::Index;
use crate::pairs::{NameId, PairId};

/// Gives the labels of series cut down to some names. Series whose remaining labels are equal
/// share one [`Labels`], and after the first of them cost a look-up.
#[derive(Debug)]
pub struct Projection<'a> {
    index: &'a Index,
    names: Vec<NameId>,
    known: HashMap<Box<[PairId]>, Labels, foldhash::fast::RandomState>,
    row: Vec<PairId>,
}

impl<'a> Projection<'a> {
    pub(crate) fn new<N: AsRef<str>>(index: &'a Index, names: &[N]) -> Self {
        let names = names.iter().filter_map(|name| index.pairs.name_id(name.as_ref())).collect();
        Self { index, names, known: HashMap::default(), row: Vec::new() }
    }

    /// `None` if there is no series of this id.
    pub fn labels(&mut self, id: u32) -> Option<Labels> {
        let pairs = &self.index.pairs;
        let row = self.index.row(id)?;
        self.row.clear();
        self.row.extend(row.iter().copied().filter(|pair| self.names.contains(&pairs.name_of(*pair))));
        if let Some(labels) = self.known.get(self.row.as_slice()) {
            return Some(labels.clone());
        }
        let kept = self.row.iter().map(|pair| (pairs.name_text(*pair), pairs.value(*pair)));
        let labels = Labels::from_sorted(kept);
        self.known.insert(Box::from(self.row.as_slice()), labels.clone());
        Some(labels)
    }
}
