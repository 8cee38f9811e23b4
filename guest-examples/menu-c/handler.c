// The handler of `guest-examples/menu`, in C: the same numbers, the same answers. Begin at `on_new_call`, then read `on_ivr`: it is asked
// once when the call is answered, and again each time a command has ended.

#include <hookswitch.h>
#include <stdio.h>
#include <stdlib.h>

// So often the menu is said to somebody who does not choose.
#define TRIES 3

// What the caller is doing, so what the request that comes next is about.
static enum { BEGIN, CHOOSING, RECORDING, ECHO, LEAVING } step = BEGIN;
static unsigned misses;
// Whom the caller wants to be connected to, from his header `X-Dest`.
static char *destination;

// To where the caller wants to be connected, if he said it. Which addresses the node calls at all is up to the operator.
static void connect_to_destination(hs_string session_id, hs_routing *answer) {
  char *id = hs_copy(session_id), *file_name = hs_concat(3, "bridge-", id, ".wav");
  hs_call(answer, destination);
  hs_ring_for(answer, 30);
  hs_record_call(answer, file_name);
  free(file_name);
  free(id);
}

static void choose(hs_command *answer) {
  step = CHOOSING;
  hs_play(answer, "welcome-menu.wav");
  hs_barge_in(answer);
  hs_collect(answer, 1, 8);
}

static void record(const hs_ivr_request *request, hs_command *answer) {
  step = RECORDING;
  char *id = hs_copy(request->info.session_id), *file_name = hs_concat(3, "message-", id, ".wav");
  hs_recording_options *options = hs_record(answer, file_name);
  options->beep = true;
  options->max_duration_ms = hs_some_u32(600 * 1000);
  options->stop_digits = hs_some("#");
  answer->recorded_callback = true;
  free(file_name);
  free(id);
}

static void leave(hs_command *answer) {
  step = LEAVING;
  hs_play(answer, "goodbye.wav");
  hs_hangup(answer);
}

static void chosen(const hs_ivr_request *request, hs_command *answer) {
  char key = hs_digit(request);
  switch (key) {
    case '1':
      hs_play(answer, "leave-message.wav");
      record(request, answer);
      return;
    case '2':
      // The collection takes the key that ends the echo, so that the menu does not hear it as a choice.
      step = ECHO;
      hs_play(answer, "echo.wav");
      hs_echo(answer, 60);
      hs_barge_in(answer);
      hs_collect(answer, 1, 1);
      return;
    case '3':
      if (destination != NULL) {
        connect_to_destination(request->info.session_id, hs_route(answer));
        return;
      }
      hs_play(answer, "no-destination.wav");
      choose(answer);
      return;
    case '0':
      choose(answer);
      return;
    default:
      misses++;
      if (misses >= TRIES) {
        leave(answer);
        return;
      }
      if (key != 0) hs_play(answer, "invalid.wav");
      choose(answer);
  }
}

void on_new_call(const hs_new_call *call, hs_routing *answer) {
  hs_string number = call->called_party;
  destination = hs_header(call, "x-dest");
  if (hs_is(number, "ivr") || hs_is(number, "voicemail") || hs_is(number, "echo")) {
    // Remembered, so that a restarted handler knows where the caller is.
    char *name = hs_copy(number), *reference = hs_concat(3, "\"", name, "\"");
    hs_ivr(answer);
    hs_remember(answer, reference);
    free(reference);
    free(name);
  } else if (hs_is(number, "bridge") && destination != NULL) {
    connect_to_destination(call->info.session_id, answer);
  } else {
    hs_drop_as(answer, hs_is(number, "reject") ? HOOKSWITCH_CALL_TYPES_DROP_CODE_DECLINE : HOOKSWITCH_CALL_TYPES_DROP_CODE_NOT_FOUND);
  }
}

void on_ivr(const hs_ivr_request *request, hs_command *answer) {
  hs_string number = {0};
  if (request->info.session_reference.is_some) number = request->info.session_reference.val;
  switch (step) {
    case BEGIN:
      if (hs_is(number, "\"voicemail\"")) {
        record(request, answer);
      } else if (hs_is(number, "\"echo\"")) {
        step = ECHO;
        hs_echo(answer, 600);
        hs_barge_in(answer);
      } else {
        choose(answer);
      }
      return;
    case CHOOSING:
      chosen(request, answer);
      return;
    case RECORDING:
      hs_play(answer, "thanks.wav");
      leave(answer);
      return;
    case ECHO:
      // From the number `echo` there is no menu to go back to.
      if (hs_is(number, "\"ivr\"")) {
        choose(answer);
      } else {
        leave(answer);
      }
      return;
    case LEAVING:
      hs_hangup(answer);
  }
}

// One of two is left, or the callee could not be reached: the call is over, and an unanswered caller hears why.
void on_call_event(const hs_call_event *event, hs_routing *answer) {
  uint16_t failure = hs_failure(event);
  hs_drop(answer, failure != 0 ? failure : 603);
}

void on_notify(const hs_notification *news) {
  if (news->tag == HOOKSWITCH_CALL_TYPES_NOTIFICATION_RECORDING_READY) {
    char size[24], *file_name = hs_copy(news->val.recording_ready.file_name);
    snprintf(size, sizeof size, "%llu", (unsigned long long)news->val.recording_ready.file_size);
    char *line = hs_concat(5, "message ", file_name, " of ", size, " bytes");
    hs_log(line);
    free(line);
    free(file_name);
  } else if (news->tag == HOOKSWITCH_CALL_TYPES_NOTIFICATION_ALARM) {
    char *line = hs_copy(news->val.alarm.error);
    hs_warn(line);
    free(line);
  }
}
