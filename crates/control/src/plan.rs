//! Plans: what a project has chosen. They cost nothing and differ in name alone.

use std::str::FromStr;

use prost::Message;

use crate::audit::{Actor, Event};
use crate::control::Control;
use crate::error::Error;
use crate::ids::ProjectId;
use crate::row::Row;
use crate::source::UnknownWord;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plan {
    #[default]
    Free,
    Premium,
    Custom,
}

impl Plan {
    pub const ALL: [Self; 3] = [Self::Free, Self::Premium, Self::Custom];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Premium => "premium",
            Self::Custom => "custom",
        }
    }
}

impl FromStr for Plan {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or(UnknownWord)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlanChoice {
    project: ProjectId,
    plan: Plan,
}

impl Control {
    pub fn plan(&self, project: ProjectId) -> Plan {
        self.image().get::<PlanChoice>(&project).map_or(Plan::default(), |c| c.plan)
    }

    pub fn select_plan(&self, by: &Actor, project: ProjectId, plan: Plan) -> Result<(), Error> {
        self.change(by, |draft| {
            draft.touch_project(project);
            draft.put(PlanChoice { project, plan });
            Ok(((), Event::named("select", "plan", plan.as_str()).of(project, None)))
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PlanMessage {
    #[prost(bytes = "vec", tag = "1")]
    project: Vec<u8>,
    #[prost(string, tag = "2")]
    plan: String,
}

impl Row for PlanChoice {
    const TABLE: &'static str = "plans";
    type Key = ProjectId;
    type Message = PlanMessage;

    fn key(&self) -> ProjectId {
        self.project
    }

    fn to_message(&self) -> PlanMessage {
        PlanMessage { project: self.project.to_bytes(), plan: self.plan.as_str().to_owned() }
    }

    fn from_message(m: PlanMessage) -> Option<Self> {
        Some(Self { project: ProjectId::from_bytes(&m.project)?, plan: m.plan.parse().ok()? })
    }
}
