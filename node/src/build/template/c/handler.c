// Answers, plays a greeting, says back whether a key was pressed, and hangs up. Begin at `on_new_call`.

#include <hookswitch.h>
#include <stdlib.h>

// Static variables live as long as one call.
static bool greeted;

// A call comes in.
void on_new_call(const hs_new_call *call, hs_routing *answer) {
  char *from = hs_copy(call->calling_party), *to = hs_copy(call->called_party);
  char *line = hs_concat(4, "call from ", from, " to ", to);
  hs_log(line);
  free(line);
  free(to);
  free(from);
  hs_ivr(answer);
}

// The call is up, or the command before has ended.
void on_ivr(const hs_ivr_request *request, hs_command *answer) {
  if (!greeted) {
    greeted = true;
    hs_play(answer, "greeting.wav");
    hs_barge_in(answer);
    hs_collect(answer, 1, 5);
    return;
  }
  hs_play(answer, hs_digit(request) != 0 ? "thanks.wav" : "goodbye.wav");
  hs_hangup(answer);
}
