//! Orders of a guest to its own session: checked here, then commands like those of REST, by the same way in (`Commands`).
//!
//! The switch never waits for guests, so a hook may order while it is being asked: the answer says that the order is valid and handed
//! over, not that it has had its effect. A guest waits for one answer at a time, and its hook's deadline runs on.
//!
//! Start with [`Desk`], what one session's guest sees of the node.

use super::explain::Explains;
use super::tenants::{Rate, Tenant, level_name, now_ms};
use super::{from_wit, limits, to_wit};
use crate::deliver::Links;
use crate::outbox::{Outbox, Post, PostError};
use crate::reply_keys::ReplyKeys;
use crate::switch_thread::Commands;
use hookswitch_call::SessionId;
use hookswitch_call::door::{CommandError, Done};
use hookswitch_wasm::{Cost, Host, Later, Level, Order, Ordered, PlacedCall, PostRequest, wit};
use std::sync::{Arc, Mutex, PoisonError};

/// What the node does for guests beyond answering from memory.
#[derive(Clone)]
pub struct Services {
    pub commands: Commands,
    /// `None`: there is no outbox here (benches, tools).
    pub outbox: Option<Outbox>,
    /// How recordings that can be fetched are reached. `None`: news of them do not say.
    pub links: Option<Arc<Links>>,
}

/// What the node does for the guests of one session. The session is the desk's, never the guest's word.
#[derive(Clone)]
pub(super) struct Desk {
    pub tenant: Arc<Tenant>,
    pub session: SessionId,
    pub session_id: String,
    pub services: Services,
    pub reply_keys: Arc<ReplyKeys>,
    /// Of the session, not of the instance: a handler that traps gets no new allowance.
    pub rate: Arc<Mutex<Rate>>,
    pub explains: Arc<Explains>,
    /// What the hook that runs took.
    pub cost: Arc<Mutex<Option<Cost>>>,
}

impl Desk {
    /// Commands and posts together.
    fn allowed(&self) -> Result<(), wit::HostError> {
        if self.rate.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(());
        }
        self.tenant.order_refused();
        Err(wit::HostError::Limit(format!("orders: {} a second in a session", limits::ORDERS_PER_SECOND)))
    }
}

impl Host for Desk {
    fn log(&self, level: Level, line: &str) {
        self.tenant.log(&self.session_id, level, line);
        self.explains.log(&self.tenant.domain, &self.session_id, level_name(level), line);
    }

    fn log_dropped(&self) {
        self.tenant.line_dropped();
    }

    // Tenants have no settings for handlers yet: nothing is set.
    fn config(&self, _key: &str) -> Option<String> {
        None
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn ran(&self, cost: Cost) {
        *self.cost.lock().unwrap_or_else(PoisonError::into_inner) = Some(cost);
    }

    fn order(&self, order: Order) -> Later<Ordered> {
        let desk = self.clone();
        let name = order.name();
        let witness = self.clone();
        let given = Box::pin(async move {
            desk.allowed()?;
            let command = from_wit::order(order, &desk.session_id)?;
            let answer = desk.services.commands.order(&desk.tenant.domain, command);
            match tokio::time::timeout(limits::ORDER_WAIT, answer).await {
                Ok(Ok(done)) => Ok(ordered(done, &desk.tenant.domain, &desk.reply_keys)),
                Ok(Err(error)) => Err(refused(error)),
                Err(_) => Err(wit::HostError::Timeout),
            }
        });
        Box::pin(async move {
            let taken: Result<Ordered, wit::HostError> = given.await;
            let refused = taken.as_ref().err().map(ToString::to_string);
            witness.explains.order(&witness.tenant.domain, &witness.session_id, name, refused);
            taken
        })
    }

    fn post(&self, post: PostRequest) -> Later<String> {
        let desk = self.clone();
        Box::pin(async move {
            desk.allowed()?;
            let Some(outbox) = &desk.services.outbox else {
                return Err(wit::HostError::Unsupported("this node does not have outbox.post".into()));
            };
            let post = Post {
                domain: desk.tenant.domain.clone(),
                session: desk.session,
                session_id: desk.session_id.clone(),
                url: post.url,
                content_type: post.content_type,
                headers: post.headers,
                body: post.body,
                report: post.report,
            };
            outbox.post(post).await.map_err(wit::HostError::from)
        })
    }
}

/// A command's outcome in the handler's words.
pub(crate) fn ordered(done: Done, domain: &str, keys: &ReplyKeys) -> Ordered {
    match done {
        Done::Nothing => Ordered::Nothing,
        Done::Placed { session_id, participant_id, reply_to } => {
            Ordered::Placed(PlacedCall { reply_id: keys.mint(domain, &session_id, reply_to), session_id, participant_id })
        }
        Done::Recording { recording_id, .. } => Ordered::Recording(recording_id),
        Done::RecordingStatus(status) => Ordered::Status(Box::new(to_wit::recording_status(*status))),
    }
}

pub(crate) fn refused(error: CommandError) -> wit::HostError {
    match error {
        CommandError::BadValue { field, why } => wit::HostError::BadValue(format!("{field}: {why}")),
        CommandError::Unknown(what) => wit::HostError::Unknown(what.to_owned()),
        CommandError::WrongState(why) => wit::HostError::WrongState(why.to_owned()),
        CommandError::Unavailable(why) => wit::HostError::NotAvailable(why.to_owned()),
    }
}

impl From<PostError> for wit::HostError {
    fn from(error: PostError) -> wit::HostError {
        match error {
            PostError::BadValue(why) => wit::HostError::BadValue(why),
            PostError::Denied(why) => wit::HostError::Denied(why),
            PostError::Limit(why) => wit::HostError::Limit(why),
            PostError::NotAvailable(why) => wit::HostError::NotAvailable(why),
        }
    }
}
