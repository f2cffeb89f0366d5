//! Entries of the account that end with who made them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::{Memory, NoMemory, Part};

/// Memory of a request, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<Memory>,
    bytes: u64,
    /// What may still be taken without asking.
    free_bytes: u64,
}

impl Reservation {
    /// To begin with.
    pub fn nothing(memory: &Arc<Memory>) -> Self {
        Self::beyond(0, memory)
    }

    /// To begin with, where the first bytes are counted and not asked for: what is small has to work
    /// even where memory is short, since it may be what tells of that.
    pub fn beyond(free_bytes: u64, memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0, free_bytes }
    }

    /// What has to be taken whatever there is room for, since it is there already: an answer that only
    /// has to be sent. It is counted, so that others give way.
    pub fn regardless(bytes: u64, memory: &Arc<Memory>) -> Self {
        let mut held = Self::beyond(0, memory);
        held.count(bytes);
        held
    }

    fn count(&mut self, bytes: u64) {
        self.memory.of(Part::Requests).fetch_add(bytes, Relaxed);
        self.bytes += bytes;
    }

    /// Takes more.
    pub fn grow(&mut self, bytes: u64) -> Result<(), NoMemory> {
        let free = self.free_bytes.min(bytes);
        if bytes > free {
            self.memory.ask_write(bytes - free)?;
        }
        self.free_bytes -= free;
        self.count(bytes);
        Ok(())
    }

    /// Takes more if there is room; what is left out instead is no refused write.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        self.memory.has_room_for(bytes) && self.grow(bytes).is_ok()
    }

    /// Gives some of it back.
    pub fn shrink(&mut self, bytes: u64) {
        let given = self.bytes.min(bytes);
        self.bytes -= given;
        self.memory.of(Part::Requests).fetch_sub(given, Relaxed);
    }

    /// The bytes that it was made for, with it: given back when the last copy or slice of them is dropped.
    pub fn attached_to(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        attached(bytes, self)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.of(Part::Requests).fetch_sub(self.bytes, Relaxed);
    }
}

/// Bytes with what holds their memory.
pub(crate) fn attached(bytes: impl AsRef<[u8]> + Send + 'static, held: impl Send + 'static) -> Bytes {
    Bytes::from_owner(Attached { bytes, _held: held })
}

struct Attached<B, H> {
    bytes: B,
    _held: H,
}

impl<B: AsRef<[u8]>, H> AsRef<[u8]> for Attached<B, H> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// What one of many holds of a part; nothing once it is dropped. It is told and never refused: what
/// fills it is refused, or waits, where it comes in.
#[derive(Debug)]
pub struct Holding {
    memory: Arc<Memory>,
    part: Part,
    bytes: u64,
}

impl Holding {
    pub(super) fn new(memory: &Arc<Memory>, part: Part) -> Self {
        Self { memory: Arc::clone(memory), part, bytes: 0 }
    }

    /// It holds so much now.
    pub fn set(&mut self, bytes: u64) {
        let of = self.memory.of(self.part);
        // Never below what others hold: what is more comes before what is less goes.
        of.fetch_add(bytes, Relaxed);
        of.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.memory.of(self.part).fetch_sub(self.bytes, Relaxed);
    }
}
