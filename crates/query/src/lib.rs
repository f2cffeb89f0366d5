//! What both query languages stand on.
