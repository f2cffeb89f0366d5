//! An answer while it is looked into.

use std::borrow::Cow;
use std::time::Instant;

use pilothouse_model::NoMemory;
use pilothouse_model::memory::Reservation;

use crate::probe::http::{Answer, text};

/// All looks into one answer share its text and its time: what looks on a thread of its own has to see
/// by itself that nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) answer: Answer,
    /// The end of the run.
    pub(super) deadline: Instant,
    /// The body with replacements for what is no UTF-8, once it was asked for.
    mended: Option<String>,
}

impl Inspected {
    pub(super) fn new(answer: Answer, deadline: Instant) -> Self {
        Self { answer, deadline, mended: None }
    }

    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// The body as text, and where more memory is booked.
    pub(super) fn text(&mut self) -> Result<(&str, &mut Reservation), NoMemory> {
        let Answer { body, held, .. } = &mut self.answer;
        let body: &[u8] = body;
        if self.mended.is_none() {
            match text(body, held)? {
                // Looked at again rather than kept: a text cannot lie beside what it borrows from.
                Cow::Borrowed(text) => return Ok((text, held)),
                Cow::Owned(text) => self.mended = Some(text),
            }
        }
        Ok((self.mended.as_deref().unwrap_or_default(), held))
    }
}

#[cfg(test)]
impl Inspected {
    /// An answer to look into for a minute, and the account that it is booked in.
    pub(super) fn of(body: impl Into<bytes::Bytes>) -> (Self, std::sync::Arc<pilothouse_model::Memory>) {
        let memory = std::sync::Arc::default();
        let answer = Answer {
            status: http::StatusCode::OK,
            version: http::Version::HTTP_11,
            headers: http::HeaderMap::new(),
            body: body.into(),
            held: Reservation::nothing(&memory),
            encrypted: false,
        };
        (Self::new(answer, Instant::now() + std::time::Duration::from_secs(60)), memory)
    }
}

#[cfg(test)]
mod tests {
    use pilothouse_model::memory::Part;

    use super::*;

    #[test]
    fn a_text_is_made_and_booked_once() {
        let (mut garbled, memory) = Inspected::of(vec![0xff; 1_000]);
        for _ in 0..5 {
            assert_eq!(garbled.text().unwrap().0.chars().count(), 1_000);
            assert_eq!(memory.held_bytes(Part::Requests), 3_000);
        }
        drop(garbled);
        assert_eq!(memory.held_bytes(Part::Requests), 0);
        let (mut plain, memory) = Inspected::of("a text");
        assert_eq!(plain.text().unwrap().0, "a text");
        assert_eq!(memory.held_bytes(Part::Requests), 0);
    }
}
