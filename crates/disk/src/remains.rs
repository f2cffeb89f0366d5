//! What can still be read of a damaged database, and which of it is certain: opened without a change to
//! the file, page by page, since redb believes every page and gives up at the first that makes no sense.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Key, TableDefinition, TableHandle as _, Value};

use crate::Error;
use crate::pages::{Node, PageRef, Pages, Widths};

/// Calls into redb about a file that is perhaps damaged: it trusts what it reads, and panics over
/// some of it.
pub fn guarded<T, E: From<Error>>(path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let what = "its reader has met something it did not expect".to_owned();
        Err(Error::database(path)(redb::Error::Corrupted(what)).into())
    })
}

/// Deeper than any tree that fits on a disk.
const MAX_DEPTH: u32 = 64;

/// A database that is only read, and not believed. Nobody may write to it meanwhile.
#[derive(Debug)]
pub struct Remains {
    pages: Pages,
    path: PathBuf,
}

/// What is missing of a table: ranges of keys whose page fails its checksum.
#[derive(Debug)]
pub struct Gaps<K> {
    ranges: Vec<Span>,
    /// Of the first page that the disk would not give.
    failed: Option<io::Error>,
    key: PhantomData<fn(K)>,
}

/// Keys as redb compares them: greater than the first, up to the second.
#[derive(Debug, Clone, Default)]
struct Span {
    after: Option<Vec<u8>>,
    upto: Option<Vec<u8>>,
}

impl<K: Key + 'static> Gaps<K> {
    fn none() -> Self {
        Self { ranges: Vec::new(), failed: None, key: PhantomData }
    }

    /// Of a table of which nothing can be read.
    pub fn all() -> Self {
        Self { ranges: vec![Span::default()], ..Self::none() }
    }

    /// Whether the table was read to its end.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a row of this key may have been in a page that is lost.
    pub fn may_hold(&self, key: &K::SelfType<'_>) -> bool {
        let key = K::as_bytes(key);
        let is_after = |bound: &Vec<u8>| K::compare(key.as_ref(), bound).is_gt();
        self.ranges
            .iter()
            .any(|span| span.after.as_ref().is_none_or(is_after) && !span.upto.as_ref().is_some_and(is_after))
    }

    /// Fails where something is missing: as damage, or as what the disk said when it was asked.
    pub fn refuse(self, table: &str, path: &Path) -> Result<(), Error> {
        let source = match (self.failed, self.ranges.len()) {
            (Some(failed), _) => redb::Error::Io(failed),
            (None, 0) => return Ok(()),
            (None, pages) => redb::Error::Corrupted(format!("{pages} pages of {table} fail their checksum")),
        };
        Err(Error::database(path)(source))
    }
}

impl Remains {
    /// Fails with damage where there is not even a header.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { pages: Pages::open(path)?, path: path.to_owned() })
    }

    /// Visits the rows of a table in the order of their keys, each with whether it is certain: so are
    /// all whose pages, up to the header, have the right checksum. Of others may be wrong, or of
    /// long ago, what they say. A table that never was has no gaps.
    pub fn each<K, V>(
        &self,
        table: TableDefinition<'_, K, V>,
        mut visit: impl FnMut(K::SelfType<'_>, V::SelfType<'_>, bool),
    ) -> Gaps<K>
    where
        K: Key + 'static,
        V: Value + 'static,
    {
        let (root, is_certain) = match self.find(table.name()) {
            Ok(Some(found)) => found,
            Ok(None) => return Gaps::none(),
            Err(failed) => return Gaps { failed, ..Gaps::all() },
        };
        let widths = Widths { key: K::fixed_width(), value: V::fixed_width() };
        let mut typed = |key: &[u8], value: &[u8], is_certain: bool| match is_certain {
            true => visit(K::from_bytes(key), V::from_bytes(value), true),
            false => drop(guarded(&self.path, || -> Result<(), Error> {
                visit(K::from_bytes(key), V::from_bytes(value), false);
                Ok(())
            })),
        };
        let mut walk = Walk { pages: &self.pages, widths, gaps: Gaps::<K>::none(), visit: &mut typed };
        if !is_certain {
            walk.gaps = Gaps::all();
        }
        if let Some(root) = root {
            walk.page(root, Span::default(), is_certain, 0);
        }
        walk.gaps
    }

    /// The root of a table, if it has rows, and whether that is certain; `None` for one that is not there.
    /// Fails where that cannot be told.
    fn find(&self, name: &str) -> Result<Option<(Option<PageRef>, bool)>, Option<io::Error>> {
        let mut found: Option<(Option<PageRef>, bool)> = None;
        let mut take = |key: &[u8], value: &[u8], is_certain: bool| {
            if key == name.as_bytes() && found.is_none_or(|(_, before)| is_certain && !before) {
                found = Some((root_of(value), is_certain));
            }
        };
        let gaps = Gaps::<&'static str>::none();
        let mut walk = Walk { pages: &self.pages, widths: Widths::default(), gaps, visit: &mut take };
        let Some(root) = self.pages.root() else { return Err(None) };
        walk.page(root, Span::default(), true, 0);
        let gaps = walk.gaps;
        match found {
            None if gaps.may_hold(&name) => Err(gaps.failed),
            found => Ok(found),
        }
    }
}

/// What the tree of tables says of one: kind, number of rows, whether there is a root, the root.
const DEFINED_ROOT: Range<usize> = 9..34;

fn root_of(definition: &[u8]) -> Option<PageRef> {
    let (is_there, root) = definition.get(DEFINED_ROOT)?.split_first()?;
    PageRef::parse(root).filter(|_| *is_there != 0)
}

/// Takes key, value, and whether they are certain.
type Visit<'a> = dyn FnMut(&[u8], &[u8], bool) + 'a;

struct Walk<'a, K> {
    pages: &'a Pages,
    widths: Widths,
    gaps: Gaps<K>,
    visit: &'a mut Visit<'a>,
}

impl<K: Key + 'static> Walk<'_, K> {
    /// Of what is below a page that is wrong, only what has the checksum that is said there is looked at:
    /// it is whole, if perhaps not of this commit.
    fn page(&mut self, page: PageRef, span: Span, is_below_certain: bool, depth: u32) {
        let read = self.pages.read(page);
        let bytes = read.unwrap_or_else(|failed| {
            self.gaps.failed.get_or_insert(failed);
            None
        });
        let (node, is_sound) = bytes.as_deref().map_or((None, false), |bytes| page.node(bytes, self.widths));
        if is_below_certain && !is_sound {
            self.gaps.ranges.push(span.clone());
        }
        let is_certain = is_below_certain && is_sound;
        match node {
            Some(Node::Leaf(rows)) if is_below_certain || is_sound => {
                rows.into_iter().for_each(|(key, value)| (self.visit)(key, value, is_certain));
            }
            Some(Node::Branch(children)) if (is_below_certain || is_sound) && depth < MAX_DEPTH => {
                let mut after = span.after;
                for child in children {
                    let upto = child.upto.map_or_else(|| span.upto.clone(), |upto| Some(upto.to_vec()));
                    let below = Span { after, upto: upto.clone() };
                    self.page(child.page, below, is_certain, depth + 1);
                    after = upto;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Database;

    const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
    const NAMES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("names");
    const NEVER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("never");
    const COUNT: u64 = 600;

    fn name(key: u64) -> String {
        format!("name-{key:05}")
    }

    fn value(key: u64) -> Vec<u8> {
        vec![key as u8; if key % 250 == 7 { 9_000 } else { 100 }]
    }

    fn fill(path: &Path) {
        let database = Database::open(path, "rows", 1, 1 << 20).unwrap();
        for part in 0..4 {
            let write = database.write(|transaction| -> Result<(), Error> {
                let mut rows = transaction.open_table(ROWS).unwrap();
                let mut names = transaction.open_table(NAMES).unwrap();
                for key in (0..COUNT).filter(|key| key % 4 == part) {
                    rows.insert(key, value(key).as_slice()).unwrap();
                    names.insert(("of", name(key).as_str()), value(key).as_slice()).unwrap();
                }
                Ok(())
            });
            write.unwrap();
        }
    }

    /// Every certain row is what was written, and every other one is in a gap. Gives how many are certain.
    fn check(path: &Path) -> Option<usize> {
        let remains = Remains::open(path).ok()?;
        let (mut keys, mut names) = (Vec::new(), Vec::new());
        let gaps = remains.each(ROWS, |key, bytes, is_certain| {
            if is_certain {
                assert_eq!(bytes, value(key));
                keys.push(key);
            }
        });
        let lost = remains.each(NAMES, |(_, key), _, is_certain| {
            if is_certain {
                names.push(key.to_owned());
            }
        });
        assert!(keys.is_sorted_by(|a, b| a < b) && names.is_sorted_by(|a, b| a < b));
        for key in 0..COUNT {
            assert!(keys.binary_search(&key).is_ok() != gaps.may_hold(&key), "{key}");
            let name = name(key);
            assert!(names.binary_search(&name).is_ok() != lost.may_hold(&("of", name.as_str())), "{name}");
        }
        assert_eq!(gaps.is_empty(), keys.len() as u64 == COUNT);
        assert!(gaps.refuse("rows", path).is_err() == (keys.len() as u64 != COUNT));
        Some(keys.len() + names.len())
    }

    #[test]
    fn what_is_around_the_damage_is_certain_and_the_file_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.redb");
        fill(&path);
        assert_eq!(check(&path), Some(2 * COUNT as usize));
        assert!(Remains::open(&path).unwrap().each(NEVER, |_, _, _| unreachable!()).is_empty());
        let whole = std::fs::read(&path).unwrap();
        let mut partly = 0;
        // Each page in turn becomes nonsense, or has one bit too many or too few.
        for page in 0..whole.len() / 4096 {
            for flips in [1, 64] {
                let mut bytes = whole.clone();
                let at = page * 4096 + if flips == 1 { page % 200 } else { 0 };
                if at == 9 {
                    continue;
                }
                bytes[at..at + flips].iter_mut().for_each(|byte| *byte ^= 0x10);
                std::fs::write(&path, &bytes).unwrap();
                let Some(found) = check(&path) else { continue };
                partly += usize::from(found > 1_000 && found < 2 * COUNT as usize);
                assert_eq!(std::fs::read(&path).unwrap(), bytes);
            }
        }
        assert!(partly > 40, "{partly}");
    }

    fn filled() -> &'static [u8] {
        static FILLED: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        FILLED.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.redb");
            fill(&path);
            std::fs::read(&path).unwrap()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Bytes of many pages at once, copied from elsewhere or made up, and a file that ends too early.
        #[test]
        fn whatever_is_wrong_nothing_panics_and_nothing_is_made_up(
            changes in proptest::collection::vec((any::<usize>(), any::<usize>(), 1usize..6_000, any::<bool>()), 1..12),
            cut in proptest::option::weighted(0.2, any::<usize>()),
        ) {
            let mut bytes = filled().to_vec();
            for (to, from, length, is_copied) in changes {
                let (to, from) = (10 + to % (bytes.len() - 6_010), from % (bytes.len() - 6_000));
                match is_copied {
                    true => bytes.copy_within(from..from + length, to),
                    false => bytes[to..to + length.min(8)].fill(from as u8),
                }
            }
            bytes.truncate(cut.map_or(usize::MAX, |cut| cut % filled().len()));
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.redb");
            std::fs::write(&path, &bytes).unwrap();
            check(&path);
        }
    }

    #[test]
    fn what_is_no_database_is_refused_or_has_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.redb");
        for bytes in [vec![], vec![0; 100], vec![0; 10_000], vec![0x5a; 10_000], vec![0xff; 9_000]] {
            std::fs::write(&path, &bytes).unwrap();
            match Remains::open(&path) {
                Ok(remains) => assert!(!remains.each(ROWS, |_, _, _| unreachable!()).is_empty()),
                Err(error) => assert!(error.is_damage(), "{error}"),
            }
        }
    }
}
