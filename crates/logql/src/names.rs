//! Label names as small numbers. Within the work on one entry names are compared many times and
//! read never; texts come back only for what is shown.

use std::sync::Arc;

use hashbrown::HashTable;
use pilothouse_model::limits::LOG_LABEL_NAMES;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher;

/// A name. Only valid for the table that made it.
pub(crate) type Sym = u32;

#[derive(Clone, Default)]
pub(crate) struct Names {
    texts: Vec<Arc<str>>,
    index: HashTable<Sym>,
    /// For each name the same with `_extracted` behind it, once asked for.
    extracted: Vec<Option<Sym>>,
}

impl Names {
    pub(crate) fn sym(&mut self, name: &str) -> Sym {
        let hash = FxBuildHasher.hash_one(name);
        let texts = &self.texts;
        if let Some(found) = self.index.find(hash, |sym| &*texts[*sym as usize] == name) {
            return *found;
        }
        let sym = self.texts.len() as Sym;
        self.texts.push(Arc::from(name));
        self.extracted.push(None);
        let texts = &self.texts;
        self.index.insert_unique(hash, sym, |s| FxBuildHasher.hash_one(&*texts[*s as usize]));
        sym
    }

    /// The name with `_extracted` behind it, which a parsed label gets when the plain name is
    /// taken by the stream or by metadata.
    pub(crate) fn extracted(&mut self, sym: Sym) -> Sym {
        if let Some(Some(found)) = self.extracted.get(sym as usize) {
            return *found;
        }
        let name = format!("{}_extracted", self.text(sym));
        let made = self.sym(&name);
        if let Some(slot) = self.extracted.get_mut(sym as usize) {
            *slot = Some(made);
        }
        made
    }

    pub(crate) fn text(&self, sym: Sym) -> &str {
        self.texts.get(sym as usize).map_or("", |t| t)
    }

    pub(crate) fn is_overfull(&self) -> bool {
        self.texts.len() > LOG_LABEL_NAMES
    }

    /// Forgets all but the first `keep` names, which a plan made.
    pub(crate) fn truncate(&mut self, keep: usize) {
        self.texts.truncate(keep);
        self.extracted.clear();
        self.extracted.resize(keep, None);
        self.index.clear();
        let texts = &self.texts;
        let hash = |s: &Sym| FxBuildHasher.hash_one(&*texts[*s as usize]);
        for sym in 0..keep as Sym {
            self.index.insert_unique(hash(&sym), sym, hash);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}
