//! Grafana users: records only. There is no Grafana here, and no password is kept.

use std::str::FromStr;

use prost::Message;
use uuid::Uuid;

use crate::audit::{Actor, Event};
use crate::control::{Control, checked_name};
use crate::error::{Error, Resource};
use crate::ids::ProjectId;
use crate::list::{Listable, Listed, Order, Page, SortKey};
use crate::row::{Row, Stamp, StampMessage};
use crate::source::UnknownWord;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrafanaRole {
    Editor,
    Viewer,
}

impl GrafanaRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Editor => "editor",
            Self::Viewer => "viewer",
        }
    }
}

impl FromStr for GrafanaRole {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Editor, Self::Viewer].into_iter().find(|r| r.as_str() == text).ok_or(UnknownWord)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrafanaUser {
    pub id: u32,
    pub project: ProjectId,
    pub login: String,
    pub role: GrafanaRole,
    pub stamp: Stamp,
}

impl Listable for GrafanaUser {
    fn number(&self) -> u64 {
        self.stamp.number
    }

    fn sorted_by(&self, key: SortKey) -> &str {
        if key == SortKey::Login { &self.login } else { "" }
    }
}

/// The login that every Grafana has already.
const ADMIN: &str = "admin";

impl Control {
    /// Makes a user; the password is told this once.
    pub fn create_grafana_user(
        &self,
        by: &Actor,
        project: ProjectId,
        login: &str,
        role: GrafanaRole,
    ) -> Result<(GrafanaUser, String), Error> {
        let login = checked_name("login", login)?;
        if login.eq_ignore_ascii_case(ADMIN) {
            return Err(Error::constraint("login", "the login admin is taken"));
        }
        let user = self.change(by, |draft| {
            let (count, quota) = (draft.image().users.len(), draft.limits().max_grafana_users);
            draft.check_quota(Resource::GrafanaUser, count, quota)?;
            if draft.image().users.values().any(|u| u.project == project && u.login == login) {
                return Err(Error::Exists { resource: Resource::GrafanaUser, id: login });
            }
            draft.touch_project(project);
            let id = 1 + draft.image().users.keys().next_back().copied().unwrap_or(0);
            let user = GrafanaUser { id, project, login, role, stamp: draft.stamp() };
            draft.put(user.clone());
            let event = event("create", &user);
            Ok((user, event))
        })?;
        Ok((user, new_password()))
    }

    /// By login; of one project or of all.
    pub fn grafana_users(&self, project: Option<ProjectId>, order: Order, page: Page) -> Listed<GrafanaUser> {
        let image = self.image();
        let kept = image.users.values().filter(|u| project.is_none_or(|p| p == u.project));
        Listed::of(kept, order, page, GrafanaUser::clone)
    }

    pub fn delete_grafana_user(&self, by: &Actor, project: Option<ProjectId>, id: u32) -> Result<(), Error> {
        self.change(by, |draft| {
            let user = found(draft.image(), project, id)?;
            draft.remove::<GrafanaUser>(&id);
            Ok(((), event("delete", &user)))
        })
    }

    /// A new password, told this once.
    pub fn reset_grafana_password(
        &self,
        by: &Actor,
        project: Option<ProjectId>,
        id: u32,
    ) -> Result<(GrafanaUser, String), Error> {
        let user = self.change(by, |draft| {
            let mut user = found(draft.image(), project, id)?;
            user.stamp.updated_ms = draft.now_ms();
            draft.put(user.clone());
            let event = event("reset_password", &user);
            Ok((user, event))
        })?;
        Ok((user, new_password()))
    }
}

fn new_password() -> String {
    Uuid::new_v4().simple().to_string()
}

/// `project` only narrows: ids are of all projects together.
fn found(image: &crate::image::Image, project: Option<ProjectId>, id: u32) -> Result<GrafanaUser, Error> {
    let found = image.get::<GrafanaUser>(&id).filter(|u| project.is_none_or(|p| p == u.project));
    found.map(|u| (**u).clone()).ok_or_else(|| Error::not_found(Resource::GrafanaUser, id))
}

fn event(action: &'static str, user: &GrafanaUser) -> Event {
    Event::new(action, Resource::GrafanaUser, user.id)
        .of(user.project, None)
        .with("login", &user.login)
        .with("role", user.role.as_str())
}

// ---- on the disk ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserMessage {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(bytes = "vec", tag = "2")]
    project: Vec<u8>,
    #[prost(string, tag = "3")]
    login: String,
    #[prost(string, tag = "4")]
    role: String,
    #[prost(message, required, tag = "5")]
    stamp: StampMessage,
}

impl Row for GrafanaUser {
    const TABLE: &'static str = "grafana_users";
    type Key = u32;
    type Message = UserMessage;

    fn key(&self) -> u32 {
        self.id
    }

    fn to_message(&self) -> UserMessage {
        UserMessage {
            id: self.id,
            project: self.project.to_bytes(),
            login: self.login.clone(),
            role: self.role.as_str().to_owned(),
            stamp: self.stamp.into(),
        }
    }

    fn from_message(m: UserMessage) -> Option<Self> {
        let (project, role) = (ProjectId::from_bytes(&m.project)?, m.role.parse().ok()?);
        Some(Self { id: m.id, project, login: m.login, role, stamp: m.stamp.into() })
    }
}
