// The handler on this machine's own processor, without wasm, node or phone: `make test`.

#include <hookswitch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks;

static void check(bool holds, const char *what) {
  checks++;
  if (!holds) {
    fprintf(stderr, "FAILED: %s\n", what);
    exit(1);
  }
}

static hs_string said(const char *text) { return (hs_string){.ptr = (uint8_t *)text, .len = strlen(text)}; }

static bool plays(const hs_command *command, const char *file_name) {
  return command->phrases.len == 1 && command->phrases.ptr[0].tag == HOOKSWITCH_CALL_TYPES_PHRASE_FILE &&
         hs_is(command->phrases.ptr[0].val.file.file_name, file_name);
}

// What the node would do with a line of the log.
void __wasm_import_hookswitch_call_log_write(int32_t level, uint8_t *line, size_t length) {
  (void)level;
  check(hs_is((hs_string){.ptr = line, .len = length}, "call from alice to anything"), "the call is told to the log");
}

int main(void) {
  hs_new_call call = {.calling_party = said("alice"), .called_party = said("anything")};
  hs_routing routing = {0};
  on_new_call(&call, &routing);
  check(routing.tag == HOOKSWITCH_CALL_TYPES_ROUTING_IVR, "the call is answered");

  hs_ivr_request request = {0};
  hs_command greeting = {0};
  on_ivr(&request, &greeting);
  check(plays(&greeting, "greeting.wav") && greeting.dtmf.is_some, "a greeting, then a key");

  hs_command silent = {0};
  on_ivr(&request, &silent);
  check(plays(&silent, "goodbye.wav") && silent.hangup, "silence is not thanked for");

  request.dtmf_params.is_some = true;
  request.dtmf_params.val.dtmf_match = said("5");
  hs_command pressed = {0};
  on_ivr(&request, &pressed);
  check(plays(&pressed, "thanks.wav") && pressed.hangup, "a key is thanked for");
  printf("%d checks passed\n", checks);
  return 0;
}
