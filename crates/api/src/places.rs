//! How many connections may be open: as many as there are descriptors for, and, while memory is short,
//! no more than a few, so that neither many clients nor the wait for their end takes the last of it.

use std::sync::Arc;
use std::time::Duration;

use pilothouse_model::Memory;
use pilothouse_model::limits::{CONNECTION_BYTES, CONNECTIONS_ALWAYS};
use pilothouse_model::memory::{Holding, Part};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How soon it is seen that there is room again.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Places {
    left: Arc<Semaphore>,
    most: usize,
    memory: Arc<Memory>,
}

/// That of one connection, with its memory; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    held: Holding,
}

impl Place {
    /// Somebody has come.
    pub(crate) fn taken(mut self) -> Self {
        self.held.set(CONNECTION_BYTES);
        self
    }
}

impl Places {
    pub(crate) fn new(most: usize, memory: &Arc<Memory>) -> Self {
        Self { left: Arc::new(Semaphore::new(most)), most, memory: Arc::clone(memory) }
    }

    /// Waits until one more connection may be open.
    pub(crate) async fn next(&self) -> Place {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.left).acquire_owned().await.ok();
        while self.open() > CONNECTIONS_ALWAYS && !self.memory.has_room() {
            tokio::time::sleep(LOOK).await;
        }
        Place { _permit: permit, held: self.memory.holding(Part::Connections) }
    }

    /// With the one that is being taken.
    fn open(&self) -> usize {
        self.most.saturating_sub(self.left.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_taken(places: &Places) -> Option<Place> {
        tokio::time::timeout(Duration::from_secs(1), places.next()).await.ok().map(Place::taken)
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_always_taken_and_more_where_there_is_room() {
        let memory = Arc::new(Memory::limited(100 << 20));
        let places = Places::new(CONNECTIONS_ALWAYS + 2, &memory);
        memory.set(&[], 95 << 20);
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_ALWAYS {
            open.push(is_taken(&places).await.unwrap());
        }
        assert!(is_taken(&places).await.is_none(), "memory is short");
        open.pop();
        open.push(is_taken(&places).await.unwrap());
        memory.set(&[], 0);
        open.extend([is_taken(&places).await.unwrap(), is_taken(&places).await.unwrap()]);
        assert!(is_taken(&places).await.is_none(), "that is all");
        assert_eq!(memory.held_bytes(Part::Connections), open.len() as u64 * CONNECTION_BYTES);
        drop(open);
        assert_eq!(memory.held_bytes(Part::Connections), 0);
    }
}
