//! The regions that the management API knows. One process serves all of them; an object is seen
//! in the region it was made in alone.

use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Region {
    /// Where the default data sources are, and what a path without a region means.
    #[default]
    FrPar,
    NlAms,
    PlWaw,
}

impl Region {
    pub const ALL: [Self; 3] = [Self::FrPar, Self::NlAms, Self::PlWaw];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FrPar => "fr-par",
            Self::NlAms => "nl-ams",
            Self::PlWaw => "pl-waw",
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a region")]
pub struct UnknownRegion;

impl FromStr for Region {
    type Err = UnknownRegion;

    fn from_str(text: &str) -> Result<Self, UnknownRegion> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or(UnknownRegion)
    }
}
