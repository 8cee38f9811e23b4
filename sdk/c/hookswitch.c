// The C SDK: see hookswitch.h. The exports at the end call the handler's functions and free what it was given.

#include "hookswitch.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static char failure[201];
static bool failed;

static hs_string text(const char *from) {
  hs_string copied;
  handler_notified_string_dup(&copied, from);
  return copied;
}

handler_notified_option_string_t hs_some(const char *from) {
  handler_notified_option_string_t some = {.is_some = true, .val = text(from)};
  return some;
}

handler_notified_option_u32_t hs_some_u32(uint32_t number) {
  handler_notified_option_u32_t some = {.is_some = true, .val = number};
  return some;
}

void hs_ivr(hs_routing *answer) {
  memset(answer, 0, sizeof *answer);
  answer->tag = HOOKSWITCH_CALL_TYPES_ROUTING_IVR;
}

void hs_drop(hs_routing *answer, uint16_t status) {
  memset(answer, 0, sizeof *answer);
  answer->tag = HOOKSWITCH_CALL_TYPES_ROUTING_DROP;
  answer->val.drop.drop_code.is_some = true;
  answer->val.drop.drop_code.val.tag = HOOKSWITCH_CALL_TYPES_DROP_CODE_SIP_CODE;
  answer->val.drop.drop_code.val.val.sip_code = status;
}

void hs_drop_as(hs_routing *answer, uint8_t code) {
  memset(answer, 0, sizeof *answer);
  answer->tag = HOOKSWITCH_CALL_TYPES_ROUTING_DROP;
  answer->val.drop.drop_code.is_some = true;
  answer->val.drop.drop_code.val.tag = code;
}

void hs_call(hs_routing *answer, const char *dest_addr) {
  memset(answer, 0, sizeof *answer);
  answer->tag = HOOKSWITCH_CALL_TYPES_ROUTING_CALL;
  answer->val.call.dest_addr = text(dest_addr);
}

void hs_ring_for(hs_routing *answer, uint32_t seconds) {
  if (answer->tag == HOOKSWITCH_CALL_TYPES_ROUTING_CALL) answer->val.call.max_ring_time_ms = hs_some_u32(seconds * 1000);
}

void hs_record_call(hs_routing *answer, const char *file_name) {
  if (answer->tag != HOOKSWITCH_CALL_TYPES_ROUTING_CALL) return;
  answer->val.call.call_recording = true;
  answer->val.call.recording_file_name = hs_some(file_name);
}

void hs_remember(hs_routing *answer, const char *session_reference) {
  switch (answer->tag) {
    case HOOKSWITCH_CALL_TYPES_ROUTING_DROP:
      answer->val.drop.session_reference = hs_some(session_reference);
      break;
    case HOOKSWITCH_CALL_TYPES_ROUTING_IVR:
      answer->val.ivr.session_reference = hs_some(session_reference);
      break;
    case HOOKSWITCH_CALL_TYPES_ROUTING_CALL:
      answer->val.call.session_reference = hs_some(session_reference);
      break;
    default:
      break;
  }
}

static hookswitch_call_types_phrase_t *phrase(hs_command *answer, uint8_t tag) {
  size_t count = answer->phrases.len + 1;
  hookswitch_call_types_phrase_t *all = realloc(answer->phrases.ptr, count * sizeof *all);
  if (all == NULL) abort();
  answer->phrases.ptr = all;
  answer->phrases.len = count;
  memset(&all[count - 1], 0, sizeof *all);
  all[count - 1].tag = tag;
  return &all[count - 1];
}

void hs_play(hs_command *answer, const char *file_name) {
  phrase(answer, HOOKSWITCH_CALL_TYPES_PHRASE_FILE)->val.file.file_name = text(file_name);
}

void hs_tone(hs_command *answer, float hz, uint32_t ms) {
  hookswitch_call_types_tone_phrase_t *tone = &phrase(answer, HOOKSWITCH_CALL_TYPES_PHRASE_TONE)->val.tone;
  tone->hz.ptr = malloc(sizeof(float));
  if (tone->hz.ptr == NULL) abort();
  tone->hz.ptr[0] = hz;
  tone->hz.len = 1;
  tone->level_dbm0 = -15;
  tone->on_ms = 1000;
  tone->total_ms = ms;
}

hookswitch_call_types_url_phrase_t *hs_play_url(hs_command *answer, const char *url) {
  hookswitch_call_types_url_phrase_t *phrase_url = &phrase(answer, HOOKSWITCH_CALL_TYPES_PHRASE_URL)->val.url;
  phrase_url->url = text(url);
  return phrase_url;
}

// A text as JSON has it.
static char *quoted(const char *plain) {
  char *out = malloc(strlen(plain) * 6 + 3), *at = out;
  if (out == NULL) abort();
  *at++ = '"';
  for (const unsigned char *c = (const unsigned char *)plain; *c; c++) {
    if (*c < ' ') {
      const char *hex = "0123456789abcdef";
      memcpy(at, "\\u00", 4);
      at += 4;
      *at++ = hex[*c >> 4];
      *at++ = hex[*c & 15];
      continue;
    }
    if (*c == '"' || *c == '\\') *at++ = '\\';
    *at++ = (char)*c;
  }
  *at++ = '"';
  *at = 0;
  return out;
}

hookswitch_call_types_tts_phrase_t *hs_speak(hs_command *answer, const char *said, const char *language) {
  hookswitch_call_types_tts_phrase_t *tts = &phrase(answer, HOOKSWITCH_CALL_TYPES_PHRASE_TTS)->val.tts;
  char *json_text = quoted(said), *json_language = quoted(language);
  char *parameters = hs_concat(5, "{\"text\":", json_text, ",\"language\":", json_language, "}");
  tts->engine = text("local");
  tts->parameters = text(parameters);
  free(json_text);
  free(json_language);
  free(parameters);
  return tts;
}

void hs_say(hs_command *answer, const char *kind, const char *value, const char *language) {
  hookswitch_call_types_say_phrase_t *say = &phrase(answer, HOOKSWITCH_CALL_TYPES_PHRASE_SAY)->val.say;
  say->kind = text(kind);
  say->value = text(value);
  say->language = text(language);
}

void hs_background(hs_command *answer, const char *file_name, uint32_t pause_s) {
  answer->background.is_some = true;
  answer->background.val.tag = HOOKSWITCH_CALL_TYPES_BACKGROUND_PLAY;
  hookswitch_call_types_background_prompt_t *prompt = &answer->background.val.val.play;
  memset(prompt, 0, sizeof *prompt);
  prompt->source.tag = HOOKSWITCH_CALL_TYPES_AUDIO_SOURCE_FILE;
  prompt->source.val.file = text(file_name);
  prompt->repeat_pause_ms = pause_s * 1000;
}

void hs_stop_background(hs_command *answer) {
  answer->background.is_some = true;
  answer->background.val.tag = HOOKSWITCH_CALL_TYPES_BACKGROUND_STOP;
}

void hs_echo(hs_command *answer, uint32_t seconds) {
  phrase(answer, HOOKSWITCH_CALL_TYPES_PHRASE_ECHO)->val.echo = seconds * 1000;
}

hs_recording_options *hs_record(hs_command *answer, const char *file_name) {
  hs_recording_options *record = &phrase(answer, HOOKSWITCH_CALL_TYPES_PHRASE_RECORD)->val.record;
  record->file_name = hs_some(file_name);
  return record;
}

void hs_collect(hs_command *answer, uint32_t max_digits, uint32_t timeout_s) {
  answer->dtmf.is_some = true;
  answer->dtmf.val.max_digits = hs_some_u32(max_digits);
  answer->dtmf.val.first_timeout_ms = hs_some_u32(timeout_s * 1000);
}

void hs_barge_in(hs_command *answer) { answer->barge_in = HOOKSWITCH_CALL_TYPES_BARGE_IN_ALL; }

void hs_hangup(hs_command *answer) { answer->hangup = true; }

hs_routing *hs_route(hs_command *answer) {
  answer->routing.is_some = true;
  return &answer->routing.val;
}

static void write_log(uint8_t level, const char *line) {
  hs_string borrowed = {.ptr = (uint8_t *)line, .len = strlen(line)};
  hookswitch_call_log_write(level, &borrowed);
}

void hs_log(const char *line) { write_log(HOOKSWITCH_CALL_LOG_LEVEL_INFO, line); }

void hs_warn(const char *line) { write_log(HOOKSWITCH_CALL_LOG_LEVEL_WARN, line); }

void hs_fail(const char *why) {
  size_t length = strlen(why);
  if (length > sizeof failure - 1) length = sizeof failure - 1;
  memcpy(failure, why, length);
  failure[length] = 0;
  failed = true;
}

bool hs_is(hs_string own, const char *other) { return own.len == strlen(other) && memcmp(own.ptr, other, own.len) == 0; }

char *hs_copy(hs_string own) {
  char *copy = malloc(own.len + 1);
  if (copy == NULL) abort();
  if (own.len > 0) memcpy(copy, own.ptr, own.len);
  copy[own.len] = 0;
  return copy;
}

char *hs_concat(size_t count, ...) {
  size_t length = 0;
  va_list texts;
  va_start(texts, count);
  for (size_t i = 0; i < count; i++) length += strlen(va_arg(texts, const char *));
  va_end(texts);
  char *joined = malloc(length + 1), *end = joined;
  if (joined == NULL) abort();
  va_start(texts, count);
  for (size_t i = 0; i < count; i++) {
    const char *next = va_arg(texts, const char *);
    size_t part = strlen(next);
    memcpy(end, next, part);
    end += part;
  }
  va_end(texts);
  *end = 0;
  return joined;
}

char hs_digit(const hs_ivr_request *request) {
  bool one = request->dtmf_params.is_some && request->dtmf_params.val.dtmf_match.len == 1;
  return one ? (char)request->dtmf_params.val.dtmf_match.ptr[0] : 0;
}

static char *find(const handler_notified_list_tuple2_string_string_t *headers, const char *name) {
  for (size_t i = 0; i < headers->len; i++) {
    if (hs_is(headers->ptr[i].f0, name)) return hs_copy(headers->ptr[i].f1);
  }
  return NULL;
}

char *hs_header(const hs_new_call *call, const char *name) {
  char *value = find(&call->x_headers, name);
  return value != NULL ? value : find(&call->p_headers, name);
}

uint16_t hs_failure(const hs_call_event *event) {
  if (event->event.tag != HOOKSWITCH_CALL_TYPES_CALL_EVENT_KIND_CALLING_PARTY_FAILURE &&
      event->event.tag != HOOKSWITCH_CALL_TYPES_CALL_EVENT_KIND_CALLED_PARTY_FAILURE) {
    return 0;
  }
  // What is no refusal cannot be passed on as one.
  bool refusal = event->sip_code.is_some && event->sip_code.val >= 400 && event->sip_code.val <= 699;
  return refusal ? event->sip_code.val : 480;
}

__attribute__((weak)) void on_call_event(const hs_call_event *event, hs_routing *answer) {
  (void)event;
  hs_drop(answer, 603);
}

__attribute__((weak)) void on_notify(const hs_notification *news) { (void)news; }

// Whether the hook had an answer; what it had filled in before it failed is lost with the little memory it took.
static bool answered(hookswitch_call_types_failure_t *err) {
  if (!failed) return true;
  failed = false;
  err->message = text(failure);
  return false;
}

bool exports_hookswitch_call_handler_new_call(hs_new_call *call, hs_routing *ret, hookswitch_call_types_failure_t *err) {
  memset(ret, 0, sizeof *ret);
  on_new_call(call, ret);
  hookswitch_call_types_new_call_request_free(call);
  return answered(err);
}

bool exports_hookswitch_call_handler_get_ivr_command(hs_ivr_request *request, hs_command *ret, hookswitch_call_types_failure_t *err) {
  memset(ret, 0, sizeof *ret);
  on_ivr(request, ret);
  hookswitch_call_types_ivr_request_free(request);
  return answered(err);
}

bool exports_hookswitch_call_handler_call_event(hs_call_event *event, hs_routing *ret, hookswitch_call_types_failure_t *err) {
  memset(ret, 0, sizeof *ret);
  on_call_event(event, ret);
  hookswitch_call_types_call_event_request_free(event);
  return answered(err);
}

void exports_hookswitch_call_notifications_notify(hs_notification *news) {
  on_notify(news);
  hookswitch_call_types_notification_free(news);
}
