//! What becomes of recordings when their session no longer says it: the switch is told, and tells whoever asked.

use crate::deliver::Moved;
use crate::inbox::SwitchInbox;
use crate::record::details_of;
use crate::store::{Listeners, RecordingRow, RecordingState};
use hookswitch_call::recording::{Dialect, Phase, RecordingOptions, RecordingStatus, StorageClass};
use hookswitch_call::{Input, RecordingMoved};
use std::sync::Arc;

/// A recording goes to its tenant's storage, is there, or will not be.
pub fn tell_moved(inbox: &SwitchInbox, moved: Moved) {
    let Moved { event_id, row, listeners, phase, copy, location, why } = moved;
    tracing::debug!(event_id, recording = row.id, domain = row.domain, phase = phase.name(), why, "recording moved");
    if !copy {
        tell(inbox, &row, RecordingStatus { phase, url: location, reason: why, ..status(&row, listeners) });
    }
}

/// A recording that a crash cut off is whole again, or lost. One for its tenant's storage is told of when it is there.
pub fn tell_repaired(inbox: &SwitchInbox, row: &RecordingRow, listeners: Listeners) {
    let told = status(row, listeners);
    if told.phase == Phase::Failed || told.options.storage_class != StorageClass::TenantBucket {
        tell(inbox, row, told);
    }
}

fn tell(inbox: &SwitchInbox, row: &RecordingRow, status: RecordingStatus) {
    let moved = RecordingMoved { session_id: row.session.clone(), domain: row.domain.as_str().into(), status: Box::new(status) };
    inbox.send(Input::RecordingMoved(moved));
}

fn status(row: &RecordingRow, listeners: Listeners) -> RecordingStatus {
    let stored = row.state == RecordingState::Available;
    // The digit may have been lost with the node.
    let details = details_of(row, None, None);
    RecordingStatus {
        recording_id: row.id.clone(),
        control_id: row.control_id.clone().unwrap_or_else(|| row.id.clone()),
        client_context: row.client_context.clone(),
        phase: if stored { Phase::Available } else { Phase::Failed },
        connection_id: row.connection.clone(),
        participant_id: listeners.participant,
        caller: row.caller.clone(),
        called: row.called.clone(),
        file_name: row.file_name.clone(),
        pause_behavior: None,
        reason: (!stored).then(|| row.stop_reason.clone()),
        result: details.as_ref().map(|details| details.result.clone()),
        details,
        started_at: Some(row.created_at),
        ended_at: row.ended_at,
        url: None,
        access_token: None,
        options: Arc::new(RecordingOptions {
            control_id: row.control_id.clone(),
            client_context: row.client_context.clone(),
            dialect: Dialect::of_name(&row.dialect).unwrap_or_default(),
            storage_class: StorageClass::of_name(&row.storage_class).unwrap_or_default(),
            status_url: listeners.status_url,
            on_complete_url: listeners.on_complete_url,
            on_available_url: listeners.on_available_url,
            ..RecordingOptions::default()
        }),
    }
}
