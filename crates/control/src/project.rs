//! Projects: who owns tokens and data sources. Any UUID is one from the moment it is named.

use prost::Message;

use crate::ids::ProjectId;
use crate::row::{Row, Stamp, StampMessage};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub id: ProjectId,
    pub stamp: Stamp,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProjectMessage {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(message, required, tag = "2")]
    stamp: StampMessage,
}

impl Row for Project {
    const TABLE: &'static str = "projects";
    type Key = ProjectId;
    type Message = ProjectMessage;

    fn key(&self) -> ProjectId {
        self.id
    }

    fn to_message(&self) -> ProjectMessage {
        ProjectMessage { id: self.id.to_bytes(), stamp: self.stamp.into() }
    }

    fn from_message(message: ProjectMessage) -> Option<Self> {
        Some(Self { id: ProjectId::from_bytes(&message.id)?, stamp: message.stamp.into() })
    }
}
