// What a C handler is written with. Define on_new_call and on_ivr, and where you care on_call_event and on_notify; fill in the answer that
// they are given. Static variables hold the state of one call: each call has an instance of its own.
//
// The records behind these names are the contract's (handler_notified.h, made from wit/), so whatever has no function here is set as a
// field. Text that is given to a function is copied.

#ifndef HOOKSWITCH_H
#define HOOKSWITCH_H

#include "handler_notified.h"

typedef handler_notified_string_t hs_string;
typedef hookswitch_call_types_new_call_request_t hs_new_call;
typedef hookswitch_call_types_ivr_request_t hs_ivr_request;
typedef hookswitch_call_types_call_event_request_t hs_call_event;
typedef hookswitch_call_types_notification_t hs_notification;
typedef hookswitch_call_types_routing_t hs_routing;
typedef hookswitch_call_types_ivr_command_t hs_command;
typedef hookswitch_call_types_recording_options_t hs_recording_options;

// ------------------------------------------------------------------------------------------------------------------ yours

// A call comes in. An answer that is left alone refuses it with 603.
void on_new_call(const hs_new_call *call, hs_routing *answer);
// The call is up, or the command before has ended.
void on_ivr(const hs_ivr_request *request, hs_command *answer);
// Another party left; if you do not define it, who is left is released.
void on_call_event(const hs_call_event *event, hs_routing *answer);
// News; if you do not define it, it is ignored.
void on_notify(const hs_notification *news);

// ----------------------------------------------------------------------------------------------------------------- routing

// Answer the call; on_ivr is asked next.
void hs_ivr(hs_routing *answer);
// Refuse or release with this SIP status, 400 to 699.
void hs_drop(hs_routing *answer, uint16_t status);
// The same by a code of the contract, e.g. HOOKSWITCH_CALL_TYPES_DROP_CODE_NOT_FOUND.
void hs_drop_as(hs_routing *answer, uint8_t code);
// Call this SIP URI and connect the two. The tenant must be allowed to call it.
void hs_call(hs_routing *answer, const char *dest_addr);
// After hs_call: give up after so many seconds, 1 to 300; 60 if not said. on_call_event decides then.
void hs_ring_for(hs_routing *answer, uint32_t seconds);
// After hs_call: record the connection under this name.
void hs_record_call(hs_routing *answer, const char *file_name);
// After hs_ivr, hs_drop or hs_call: JSON text, up to 4096 bytes, that every later request carries as info.session_reference.
void hs_remember(hs_routing *answer, const char *session_reference);

// ---------------------------------------------------------------------------------------------------------------- commands

// Plays a file of the tenant's prompts.
void hs_play(hs_command *answer, const char *file_name);
// Plays one frequency for so many milliseconds.
void hs_tone(hs_command *answer, float hz, uint32_t ms);
// Plays audio from elsewhere, within the tenant's allowed origins. What is returned takes further settings: file_name, refresh_cache, ...
hookswitch_call_types_url_phrase_t *hs_play_url(hs_command *answer, const char *url);
// Speaks a text by the node's own engine, in this language, e.g. "en-GB". The same of what is returned; it is valid until the next phrase.
hookswitch_call_types_tts_phrase_t *hs_speak(hs_command *answer, const char *text, const char *language);
// Says a value: kind "number", "digits", "date", "time" or "currency".
void hs_say(hs_command *answer, const char *kind, const char *value, const char *language);
// Loops a file under everything, 15 dB down while phrases play, until hs_stop_background or the end of the IVR.
void hs_background(hs_command *answer, const char *file_name, uint32_t pause_s);
void hs_stop_background(hs_command *answer);
// Sends back what the caller says for so many seconds.
void hs_echo(hs_command *answer, uint32_t seconds);
// Records the caller. What is returned takes further settings: beep, max_duration_ms, ... It is valid until the next phrase.
hs_recording_options *hs_record(hs_command *answer, const char *file_name);
// Then wait for so many digits, for the first one so many seconds.
void hs_collect(hs_command *answer, uint32_t max_digits, uint32_t timeout_s);
// A digit ends all phrases.
void hs_barge_in(hs_command *answer);
// Release the party after the phrases.
void hs_hangup(hs_command *answer);
// Leave the IVR after the phrases: fill in what is returned as in on_new_call.
hs_routing *hs_route(hs_command *answer);

// ------------------------------------------------------------------------------------------------------------------ helpers

// A line in the tenant's log; `hookswitch guest logs` shows it. Never put digits, keys or tokens in it.
void hs_log(const char *line);
// The same, for what should not happen.
void hs_warn(const char *line);
// The hook that runs has no answer: the tenant's log shows why, and the tenant's fallback decides. At most 200 bytes are kept.
void hs_fail(const char *why);
// Whether a text of a request is this one.
bool hs_is(hs_string text, const char *other);
// A copy of a text of a request with a zero at its end; free it.
char *hs_copy(hs_string text);
// So many texts in one; free it. hs_concat(3, "message-", id, ".wav").
char *hs_concat(size_t count, ...);
// A text for an optional field of a record.
handler_notified_option_string_t hs_some(const char *text);
// A number for one.
handler_notified_option_u32_t hs_some_u32(uint32_t number);
// The digit that the last command collected if it was exactly one, else 0.
char hs_digit(const hs_ivr_request *request);
// The first value of an X- or P- header (give its name in lower case), copied; NULL if there is none.
char *hs_header(const hs_new_call *call, const char *name);
// The status with which a party could not be reached or was lost, 480 where there is none; 0 for any other event.
uint16_t hs_failure(const hs_call_event *event);

#endif
