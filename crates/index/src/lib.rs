//! The label index of both stores.
