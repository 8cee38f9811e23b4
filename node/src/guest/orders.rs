//! Orders of a guest to its own session: checked here, then commands like those of REST, by the same way in (`Commands`).
//!
//! The switch never waits for guests, so a hook may order while it is being asked: the answer says that the order is valid and handed
//! over, not that it has had its effect. A guest waits for one answer at a time, and its hook's deadline runs on.
//!
//! Start with [`Desk`], what one session's guest sees of the node.

use super::explain::Explains;
use super::tenants::{Rate, Tenant, level_name, now_ms};
use super::vault::{Told, Vault};
use super::{from_wit, limits, prompts, to_wit, values};
use crate::deliver::Links;
use crate::outbox::{self, CALLBACK_KEY, Outbox, Post, PostError, RequestError, Requests};
use crate::prompt_files::PromptFiles;
use crate::reply_keys::ReplyKeys;
use crate::store::{Settings, Store};
use crate::switch_thread::Commands;
use hookswitch_call::SessionId;
use hookswitch_call::door::{CommandError, Done};
use hookswitch_wasm::{
    Cost, Host, Later, Level, Order, Ordered, PlacedCall, PostRequest, PromptOp, Prompted, Request, Response, StoreOp, Stored, wit,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the node does for guests beyond answering from memory.
#[derive(Clone)]
pub struct Services {
    pub commands: Commands,
    /// `None`: there is no outbox here (benches, tools).
    pub outbox: Option<Outbox>,
    /// How recordings that can be fetched are reached. `None`: news of them do not say.
    pub links: Option<Arc<Links>>,
    /// Where handlers keep values. `None`: nowhere.
    pub store: Option<Store>,
    /// Their prompts. `None`: they cannot reach them.
    pub prompts: Option<PromptFiles>,
    /// Where their secrets are. `None`: they have none.
    pub vault: Option<Vault>,
    /// How they ask elsewhere. `None`: not at all.
    pub requests: Option<Requests>,
}

impl Services {
    /// Orders, and nothing beside them: for tools and tests.
    pub fn of(commands: Commands) -> Services {
        Services { commands, outbox: None, links: None, store: None, prompts: None, vault: None, requests: None }
    }
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
    /// As they were when the session began.
    pub settings: Arc<Settings>,
    pub told: Told,
    pub explains: Arc<Explains>,
    /// What the hook that runs took.
    pub cost: Arc<Mutex<Option<Cost>>>,
}

impl Desk {
    /// Commands, posts and timers together.
    fn allowed(&self) -> Result<(), wit::HostError> {
        if self.rate.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(());
        }
        self.tenant.order_refused();
        Err(wit::HostError::Limit(format!("orders: {} a second in a session", limits::ORDERS_PER_SECOND)))
    }

    /// Looks at keys, values, secrets and prompts together.
    fn may_look(&self) -> Result<(), wit::HostError> {
        if self.tenant.may_look() {
            return Ok(());
        }
        Err(wit::HostError::Limit(format!("store: {} operations of a tenant a second", crate::limits::STORE_RATE)))
    }

    /// What is refused by a limit is said in the tenant's log.
    fn said<T>(&self, result: Result<T, wit::HostError>) -> Result<T, wit::HostError> {
        if let Err(wit::HostError::Limit(limit)) = &result {
            self.tenant.limited(&self.session_id, limit);
        }
        result
    }
}

impl Host for Desk {
    fn log(&self, level: Level, line: &str) {
        let line = self.told.hide(line);
        self.tenant.log(&self.session_id, level, &line);
        self.explains.log(&self.tenant.domain, &self.session_id, level_name(level), &line);
    }

    fn log_dropped(&self) {
        self.tenant.line_dropped();
    }

    fn limited(&self, limit: &str) {
        self.tenant.limited(&self.session_id, limit);
    }

    fn config(&self, key: &str) -> Option<String> {
        self.settings.get(key).cloned()
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
        Box::pin(async move {
            let result = async {
                desk.allowed()?;
                let command = from_wit::order(order, &desk.session_id)?;
                let answer = desk.services.commands.order(&desk.tenant.domain, command);
                match tokio::time::timeout(limits::ORDER_WAIT, answer).await {
                    Ok(Ok(done)) => Ok(ordered(done, &desk.tenant.domain, &desk.reply_keys)),
                    Ok(Err(error)) => Err(refused(error)),
                    Err(_) => Err(wit::HostError::Timeout),
                }
            };
            let result = desk.said(result.await);
            let refused = result.as_ref().err().map(|error| desk.told.hide(&error.to_string()));
            desk.explains.order(&desk.tenant.domain, &desk.session_id, name, refused);
            result
        })
    }

    fn post(&self, post: PostRequest) -> Later<String> {
        let desk = self.clone();
        Box::pin(async move {
            desk.said(desk.allowed())?;
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
            desk.said(outbox.post(post).await.map_err(wit::HostError::from))
        })
    }

    fn store(&self, op: StoreOp) -> Later<Stored> {
        let desk = self.clone();
        Box::pin(async move {
            let Some(store) = &desk.services.store else {
                return Err(wit::HostError::Unsupported("this node does not have store".into()));
            };
            desk.said(desk.may_look())?;
            desk.said(values::carry_out(store, &desk.tenant.domain, op).await)
        })
    }

    fn prompts(&self, op: PromptOp) -> Later<Prompted> {
        let desk = self.clone();
        Box::pin(async move {
            let Some(files) = &desk.services.prompts else {
                return Err(wit::HostError::Unsupported("this node does not have prompts".into()));
            };
            desk.said(desk.may_look())?;
            desk.said(prompts::carry_out(files, &desk.tenant.domain, op).await)
        })
    }

    fn fetch(&self, request: Request, left: Duration) -> Later<Response> {
        let desk = self.clone();
        Box::pin(async move {
            let Some(requests) = &desk.services.requests else {
                return Err(wit::HostError::Unsupported("this node does not have http.fetch".into()));
            };
            let request = outbox::Request {
                method: request.method,
                url: request.url,
                headers: request.headers,
                body: request.body,
                timeout: request.timeout_ms.map(|ms| Duration::from_millis(ms.into())),
            };
            let answer = requests.send(&desk.tenant.domain, request, left).await;
            let answer = answer.map(|answer| Response { status: answer.status, headers: answer.headers, body: answer.body });
            desk.said(answer.map_err(wit::HostError::from))
        })
    }

    fn secret(&self, name: String) -> Later<String> {
        let desk = self.clone();
        Box::pin(async move {
            let Some(vault) = &desk.services.vault else {
                return Err(wit::HostError::Unsupported("this node does not have secrets.get".into()));
            };
            desk.said(desk.may_look())?;
            if name == CALLBACK_KEY {
                return desk.said(Err(wit::HostError::Denied(format!("{CALLBACK_KEY}: the node signs with it, and shows it to nobody"))));
            }
            let secret = match tokio::time::timeout(crate::limits::STORE_WAIT, vault.get(&desk.tenant.domain, &name)).await {
                Ok(secret) => secret.map_err(values::failed)?,
                Err(_) => return Err(wit::HostError::Timeout),
            };
            let secret = secret.ok_or_else(|| wit::HostError::Unknown("secret".into()))?;
            desk.told.add(&secret);
            Ok(secret.expose().to_owned())
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
        CommandError::Limit(why) => wit::HostError::Limit(why),
        CommandError::Unavailable(why) => wit::HostError::NotAvailable(why.to_owned()),
        CommandError::Quota(quota) => wit::HostError::Limit(format!("{}: the tenant's quota is used up", quota.name())),
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

impl From<RequestError> for wit::HostError {
    fn from(error: RequestError) -> wit::HostError {
        match error {
            RequestError::BadValue(why) => wit::HostError::BadValue(why),
            RequestError::Denied(why) => wit::HostError::Denied(why),
            RequestError::Limit(why) => wit::HostError::Limit(why),
            RequestError::NotAvailable(why) => wit::HostError::NotAvailable(why),
            RequestError::Timeout => wit::HostError::Timeout,
        }
    }
}
