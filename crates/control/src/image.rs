//! What is held in memory: every record but the audit trail and the workers' tables.
//!
//! An image never changes once it can be seen; a change makes a new one that shares all tables
//! it did not touch. A reader therefore sees one moment across all tables, however long it looks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::alerting::{AlertSettings, ContactPoint};
use crate::grafana::GrafanaUser;
use crate::grant::Grant;
use crate::plan::PlanChoice;
use crate::project::Project;
use crate::row::{self, Key as _, Row};
use crate::source::{DataSource, Removal};
use crate::token::{StoredToken, prefix_of};

pub(crate) type Table<R> = Arc<BTreeMap<<R as Row>::Key, Arc<R>>>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) projects: Table<Project>,
    pub(crate) sources: Table<DataSource>,
    pub(crate) removals: Table<Removal>,
    pub(crate) tokens: Table<StoredToken>,
    pub(crate) contacts: Table<ContactPoint>,
    pub(crate) alerting: Table<AlertSettings>,
    pub(crate) users: Table<GrafanaUser>,
    pub(crate) plans: Table<PlanChoice>,
    /// By the first bytes of a secret's hash. Derived from `tokens`.
    pub(crate) grants: Arc<HashMap<u64, Vec<Arc<Grant>>>>,
}

/// A row that is held in memory.
pub(crate) trait Held: Row {
    fn table(image: &Image) -> &Table<Self>;
    fn table_mut(image: &mut Image) -> &mut Table<Self>;
}

macro_rules! held {
    ($( $row:ty => $field:ident; )*) => {
        $( impl Held for $row {
            fn table(image: &Image) -> &Table<Self> {
                &image.$field
            }

            fn table_mut(image: &mut Image) -> &mut Table<Self> {
                &mut image.$field
            }
        } )*

        impl Image {
            pub(crate) const TABLES: &'static [&'static str] = &[ $( <$row>::TABLE, )* ];

            /// Reads every table; `load` gives the rows of one.
            pub(crate) fn load<E>(load: &mut impl LoadTable<E>) -> Result<Self, E> {
                let mut image = Self::default();
                $( image.$field = Arc::new(load.table::<$row>()?); )*
                Ok(image)
            }

            /// Gives every row as the file has it: table, key, bytes.
            pub(crate) fn each_row(&self, mut each: impl FnMut(&'static str, String, Vec<u8>)) {
                $( self.$field.iter().for_each(|(key, row)| each(<$row>::TABLE, key.text(), row::encode(&**row))); )*
            }

            /// Rows of all tables together.
            pub(crate) fn row_count(&self) -> usize {
                0 $( + self.$field.len() )*
            }

            /// Whether two images hold the same records.
            #[cfg(test)]
            pub(crate) fn same_rows(&self, other: &Self) -> bool {
                true $( && format!("{:?}", self.$field) == format!("{:?}", other.$field) )*
            }
        }
    };
}

pub(crate) trait LoadTable<E> {
    fn table<R: Row>(&mut self) -> Result<BTreeMap<R::Key, Arc<R>>, E>;
}

held! {
    Project => projects;
    DataSource => sources;
    Removal => removals;
    StoredToken => tokens;
    ContactPoint => contacts;
    AlertSettings => alerting;
    GrafanaUser => users;
    PlanChoice => plans;
}

impl Image {
    pub(crate) fn put<R: Held>(&mut self, row: R) {
        Arc::make_mut(R::table_mut(self)).insert(row.key(), Arc::new(row));
    }

    pub(crate) fn remove<R: Held>(&mut self, key: &R::Key) {
        Arc::make_mut(R::table_mut(self)).remove(key);
    }

    pub(crate) fn get<R: Held>(&self, key: &R::Key) -> Option<&Arc<R>> {
        R::table(self).get(key)
    }

    /// Makes the grants fit the tokens. Grants of tokens that stay are the same ones as before,
    /// so that open connections keep theirs; those of tokens that are gone are revoked.
    pub(crate) fn renew_grants(&mut self, before: &Image) {
        if Arc::ptr_eq(&self.tokens, &before.tokens) {
            return;
        }
        let old: HashMap<_, _> = before.grants.values().flatten().map(|g| (g.token(), g)).collect();
        let mut grants: HashMap<u64, Vec<Arc<Grant>>> = HashMap::with_capacity(self.tokens.len());
        for (id, token) in &*self.tokens {
            let grant = old.get(id).map_or_else(|| Arc::new(Grant::of(token)), |g| Arc::clone(g));
            grants.entry(prefix_of(&token.hash)).or_default().push(grant);
        }
        old.iter().filter(|(id, _)| !self.tokens.contains_key(id)).for_each(|(_, grant)| grant.revoke());
        self.grants = Arc::new(grants);
    }
}
