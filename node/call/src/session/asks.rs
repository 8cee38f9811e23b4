//! The handler's turn: one question of a session at a time (SM-002), news in between, and what to do when it fails.

use super::*;
use crate::alarm::RoutingHook;
use crate::door::{Ask, AskId, Fallback, NumberFallback};
use crate::hook::{Alarm, AlarmLeg, CallEvent, CallIdentifier, Identified, NewCall, Routing};
use crate::rules::Announce;

/// The question that runs.
pub(super) struct Asked {
    pub number: u32,
    /// Whom its answer is for. A party that left meanwhile makes it void.
    pub party: PartyKey,
    /// The session does not end before it is answered: nobody is left, but the handler is to hear of it (a placed call that failed).
    pub keep: bool,
    pub hook: Hook,
    pub guard: Time,
}

/// Hooks and news that wait for the running hook.
pub(super) enum Waiting {
    Hook { party: PartyKey, keep: bool, hook: Hook },
    News(Box<Notification>),
}

impl Waiting {
    pub fn keeps(&self) -> bool {
        matches!(self, Waiting::Hook { keep: true, .. })
    }
}

/// UR 6.2: each recording has one last state, and somebody waits for it. There are no more of them than recordings, which are few.
fn is_last_state(notification: &Notification) -> bool {
    matches!(notification, Notification::RecordingState { status, .. } if status.phase.is_terminal())
}

impl Session {
    pub(super) fn ask(&mut self, now: Time, x: &mut Exchange, party: PartyKey, hook: Hook) {
        self.ask_and_keep(now, x, party, hook, false);
    }

    pub(super) fn ask_and_keep(&mut self, now: Time, x: &mut Exchange, party: PartyKey, mut hook: Hook, keep: bool) {
        if self.asked.is_some() {
            // Each party has one question at most, so this is as bounded as the parties are; only news can fill the rest.
            return self.waiting.push_back(Waiting::Hook { party, keep, hook });
        }
        self.asks = self.asks.wrapping_add(1);
        let number = self.asks;
        *hook.info_mut() = self.info.clone();
        let deadline = match &mut hook {
            Hook::GetIvrCommand(request) => {
                request.reply_to = ReplyTo::IvrCommand(number);
                limits::IVR_DEADLINE
            }
            Hook::NewCall(_) | Hook::GetCallIdentifier(_) | Hook::CallEvent(_) | Hook::NewRemoteCall(_) => limits::DECISION_DEADLINE,
        };
        let ask = Ask { id: AskId { session: self.id, number }, domain: self.tenant.domain.clone(), hook, deadline };
        self.asked = Some(Asked { number, party, keep, hook: ask.hook.clone(), guard: now + deadline + limits::ASK_GRACE });
        match &mut self.rules {
            Some(rules) => self.ruled = Some(crate::Adapter::answer(rules, &ask)),
            None => x.emit(Output::Ask(Box::new(ask))),
        }
    }

    /// What the handler is asked of a call that comes in (IC-125, IC-195).
    pub(super) fn first_question(&self, call: NewCall) -> Hook {
        if self.tenant.is_in_mode(&call.called_party) {
            let NewCall { info, participant_id, called_party, .. } = call;
            return Hook::GetCallIdentifier(Box::new(CallIdentifier { info, participant_id, called_party }));
        }
        Hook::NewCall(Box::new(call))
    }

    /// The questions about this party that were not asked yet are void.
    pub(super) fn forget_questions(&mut self, key: PartyKey) {
        self.waiting.retain(|w| !matches!(w, Waiting::Hook { party, keep: false, .. } if *party == key));
    }

    /// News never overlap a running hook: they wait for it, up to the mailbox's size.
    pub(super) fn notify(&mut self, x: &mut Exchange, notification: Notification) {
        let notification = Box::new(notification);
        if self.asked.is_none() || self.rules.is_some() {
            self.send(x, notification);
        } else if self.waiting.len() < limits::MAILBOX || is_last_state(&notification) {
            self.waiting.push_back(Waiting::News(notification));
        } else {
            x.count(Counter::NotificationDropped);
        }
    }

    pub(super) fn send(&self, x: &mut Exchange, notification: Box<Notification>) {
        x.emit(Output::Notify { session: self.id, domain: self.tenant.domain.clone(), notification });
    }

    /// The running hook is answered: what waited goes out, up to the next hook.
    fn release_waiting(&mut self, now: Time, x: &mut Exchange) {
        while self.asked.is_none() {
            match self.waiting.pop_front() {
                Some(Waiting::News(notification)) => self.send(x, notification),
                Some(Waiting::Hook { party, keep, hook }) => self.ask_and_keep(now, x, party, hook, keep),
                None => return,
            }
        }
    }

    pub(super) fn alarm(&mut self, now: Time, x: &mut Exchange, kind: AlarmKind, error: &str, details: Option<String>) {
        self.alarm_of_leg(now, x, kind, error, details, None);
    }

    pub(super) fn alarm_of_leg(
        &mut self,
        now: Time,
        x: &mut Exchange,
        kind: AlarmKind,
        error: &str,
        details: Option<String>,
        leg: Option<Box<AlarmLeg>>,
    ) {
        let Some(held_back) = x.alarms.pass(now, &self.tenant.domain, kind, error) else {
            return x.count(Counter::AlarmSuppressed);
        };
        let details = match (details, held_back) {
            (details, 0) => details,
            (None, n) => Some(format!("{n} equal alarms were held back")),
            (Some(details), n) => Some(format!("{details} ({n} equal alarms were held back)")),
        };
        let text = format!("alarm {} {error}{}", kind.name(), details.as_ref().map(|d| format!(": {d}")).unwrap_or_default());
        x.log(Level::Warn, Some(&self.info.session_id), text);
        let alarm = Alarm { info: self.info.clone(), kind, error: error.to_owned(), details, leg };
        self.notify(x, Notification::Alarm(alarm));
    }

    pub(super) fn on_verdict(&mut self, now: Time, x: &mut Exchange, verdict: Result<Verdict, HookFailure>) {
        let Some(Asked { hook, party, number, .. }) = self.asked.take() else { return };
        let name = hook.name();
        if let Err(failure) = &verdict {
            self.hook_failed(x, name, failure);
        }
        if self.live(party).is_none() {
            // IC-156: the party left while the handler thought. Its answer is void, but the reference it set is not.
            // Too large is no failure of a call that is over.
            let _ = match &verdict {
                Ok(Verdict::Routing(routing)) => self.take_reference(routing),
                Ok(Verdict::Identified(Identified { session_reference, .. }) | Verdict::Noted { session_reference }) => {
                    self.store_reference(session_reference.as_ref())
                }
                Ok(Verdict::Ivr(_)) | Err(_) => Ok(()),
            };
        } else {
            match (hook, verdict) {
                (Hook::NewCall(call), Ok(Verdict::Routing(routing))) => match self.take_reference(&routing) {
                    Ok(()) => self.on_routing(now, x, party, routing, RoutingHook::NewCall),
                    Err(failure) => self.on_bad_answer(now, x, party, Hook::NewCall(call), &failure),
                },
                (Hook::GetCallIdentifier(request), Ok(Verdict::Identified(identified))) => match self.take_identity(&identified) {
                    Ok(()) => self.connect_ivr(now, x, party),
                    Err(failure) => self.on_bad_answer(now, x, party, Hook::GetCallIdentifier(request), &failure),
                },
                (Hook::CallEvent(event), Ok(Verdict::Routing(routing))) => match self.take_reference(&routing) {
                    Ok(()) => self.on_routing(now, x, party, routing, RoutingHook::CallEvent),
                    Err(failure) => self.on_bad_answer(now, x, party, Hook::CallEvent(event), &failure),
                },
                (Hook::NewRemoteCall(call), Ok(Verdict::Noted { session_reference })) => {
                    if let Err(failure) = self.store_reference(session_reference.as_ref()) {
                        self.on_bad_answer(now, x, party, Hook::NewRemoteCall(call), &failure);
                    }
                }
                (Hook::GetIvrCommand(_), Ok(Verdict::Ivr(command))) => self.on_ivr_command(now, x, party, number, *command),
                (hook, Ok(verdict)) => {
                    let what = match verdict {
                        Verdict::Routing(_) => "a routing",
                        Verdict::Ivr(_) => "an IVR command",
                        Verdict::Identified(_) => "what a call is",
                        Verdict::Noted { .. } => "that it was heard",
                    };
                    self.on_bad_answer(now, x, party, hook, &nonsense("verdict", &format!("{what} is no answer to this hook")));
                }
                (hook, Err(failure)) => self.on_failure(now, x, party, hook, &failure),
            }
        }
        self.release_waiting(now, x);
        self.end_if_empty(x, now);
    }

    pub(super) fn hook_failed(&mut self, x: &mut Exchange, name: &str, failure: &HookFailure) {
        x.count(Counter::HookFailed);
        x.log(Level::Warn, Some(&self.info.session_id), format!("{name} failed: {}", alarm::failure_details(failure)));
        if failure.lost_instance() {
            self.info.restarted = true;
        }
    }

    /// An answer replaces the stored reference (IC-187, IC-228), unless it is too large (IC-012).
    pub(super) fn store_reference(&mut self, reference: Option<&String>) -> Result<(), HookFailure> {
        match reference {
            Some(text) if text.len() > limits::SESSION_REFERENCE => Err(nonsense("sessionReferenceId", "larger than 4 KiB")),
            Some(text) => {
                self.info.session_reference = Some(text.clone());
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn take_reference(&mut self, routing: &Routing) -> Result<(), HookFailure> {
        self.store_reference(match routing {
            Routing::Drop { session_reference, .. }
            | Routing::Ivr { session_reference }
            | Routing::Join { session_reference, .. }
            | Routing::HttpCall { session_reference, .. }
            | Routing::Redirect { session_reference, .. } => session_reference.as_ref(),
            Routing::Call(call) => call.session_reference.as_ref(),
            Routing::Ext { .. } => None,
        })
    }

    /// IC-198, IC-199.
    fn take_identity(&mut self, identified: &Identified) -> Result<(), HookFailure> {
        if identified.session_id.as_ref().is_some_and(|id| *id != self.info.session_id) {
            return Err(nonsense("sessionId", "is not that of the request"));
        }
        self.store_reference(identified.session_reference.as_ref())
    }

    fn on_bad_answer(&mut self, now: Time, x: &mut Exchange, party: PartyKey, hook: Hook, failure: &HookFailure) {
        self.hook_failed(x, hook.name(), failure);
        self.on_failure(now, x, party, hook, failure);
    }

    fn on_failure(&mut self, now: Time, x: &mut Exchange, party: PartyKey, hook: Hook, failure: &HookFailure) {
        match hook {
            // IC-200: the same path.
            Hook::NewCall(_) | Hook::GetCallIdentifier(_) => self.new_call_failed(now, x, party, hook, failure),
            Hook::CallEvent(event) => self.call_event_failed(now, x, party, event, failure),
            Hook::GetIvrCommand(_) => self.ivr_failed(now, x, party, failure),
            Hook::NewRemoteCall(call) => self.remote_call_failed(now, x, party, call, failure),
        }
    }

    /// IC-298: a new instance of the same version gets the hook again, once per session.
    pub(super) fn may_restart(&mut self, x: &mut Exchange, failure: &HookFailure) -> bool {
        let may = failure.lost_instance() && !std::mem::replace(&mut self.restarted_once, true);
        if may {
            x.count(Counter::HookRestarted);
        }
        may
    }

    fn new_call_failed(&mut self, now: Time, x: &mut Exchange, party: PartyKey, hook: Hook, failure: &HookFailure) {
        let details = alarm::failure_details(failure);
        let details = if let Hook::NewCall(_) = hook { details } else { format!("{}: {details}", hook.name()) };
        self.alarm(now, x, AlarmKind::NewCallEventError, RoutingHook::NewCall.failed(failure), Some(details));
        if self.may_restart(x, failure) {
            return self.ask(now, x, party, hook);
        }
        self.fall_back(now, x, party);
    }

    /// IC-157: the party that is left is released.
    fn call_event_failed(&mut self, now: Time, x: &mut Exchange, party: PartyKey, event: Box<CallEvent>, failure: &HookFailure) {
        let details = Some(alarm::failure_details(failure));
        self.alarm(now, x, AlarmKind::CallEventError, RoutingHook::CallEvent.failed(failure), details);
        if self.may_restart(x, failure) {
            return self.ask(now, x, party, Hook::CallEvent(event));
        }
        self.release(now, x, party, Leave::refuse(now, 480, "serverError").keeping_reason());
    }

    /// What the tenant has set for the number that was called, if it holds still (IC-291, IC-292).
    pub(super) fn number_fallback(&self, now: Time, x: &Exchange) -> Option<Arc<NumberFallback>> {
        self.tenant.number_fallbacks.get(&self.called).filter(|fallback| x.wall(now) < fallback.expires_at_ms).cloned()
    }

    /// SM-014: rules in place of the handler, from here on.
    pub(super) fn run_fallback(&mut self, now: Time, x: &mut Exchange, party: PartyKey, fallback: &NumberFallback, why: &str) {
        x.count(Counter::FallbackUsed);
        self.alarm(now, x, AlarmKind::EmergencyFallback, why, None);
        match (fallback.phrases.is_empty(), fallback.call.clone()) {
            (false, call) => {
                self.rules = Some(Announce::new(fallback.phrases.clone(), call));
                self.connect_ivr(now, x, party);
            }
            // Nobody pays for a call that is answered only to be called on.
            (true, Some(call)) => {
                self.rules = Some(Announce::new(Vec::new(), None));
                self.on_routing(now, x, party, Routing::Call(call), RoutingHook::CallEvent);
            }
            (true, None) => self.release(now, x, party, Leave::refuse(now, 480, "fallback")),
        }
    }

    /// The handler failed a newCall for good (IC-293, IC-294).
    pub(super) fn fall_back(&mut self, now: Time, x: &mut Exchange, party: PartyKey) {
        if let Some(fallback) = self.number_fallback(now, x) {
            return self.run_fallback(now, x, party, &fallback, alarm::TRIGGERED_BY_ERROR);
        }
        x.count(Counter::FallbackUsed);
        match self.tenant.fallback.clone() {
            Fallback::Refuse { status } => {
                let status = if (400..=699).contains(&status) { status } else { 503 };
                self.release(now, x, party, Leave::refuse(now, status, "serverError"));
            }
            Fallback::Announce { phrases } => {
                self.alarm(now, x, AlarmKind::EmergencyFallback, alarm::TRIGGERED_BY_ERROR, None);
                self.rules = Some(Announce::new(phrases, None));
                // The rules' own answer to newCall is always the IVR.
                self.connect_ivr(now, x, party);
            }
        }
    }
}
