//! Each sort of identifier is a type of its own: a token's id never passes for a source's.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

macro_rules! ids {
    ($( $(#[$doc:meta])* $name:ident )*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            pub(crate) fn to_bytes(self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }

            pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }

        /// In the usual form, with hyphens and in lower case.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        /// Takes the form with hyphens alone, in either case: clients check the same.
        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                let hyphenated = text.len() == 36;
                Uuid::try_parse(text).ok().filter(|_| hyphenated).map(Self).ok_or(MalformedId)
            }
        }
    )* };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct MalformedId;

ids! {
    ProjectId
    SourceId
    TokenId
}

impl SourceId {
    /// The same for the same text, on every server.
    pub fn of_text(text: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash).for_each(|(byte, of_hash)| *byte = of_hash);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl ProjectId {
    /// The project of whoever names none.
    pub const DEFAULT: Self = Self(Uuid::nil());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_in_their_usual_form() {
        let id = TokenId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(TokenId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(ProjectId::DEFAULT.to_string(), "00000000-0000-0000-0000-000000000000");
        assert_eq!(SourceId::of_text("a").to_string(), "ca978112-ca1b-8dca-bac2-31b39a23dc4d");
        for bad in ["", "x", "00000000000000000000000000000000", "00000000-0000-0000-0000-00000000000g"] {
            assert_eq!(bad.parse::<SourceId>(), Err(MalformedId), "{bad}");
        }
    }
}
