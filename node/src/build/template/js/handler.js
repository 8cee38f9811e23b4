// Answers, plays a greeting, says back whether a key was pressed, and hangs up. Begin at `newCall`.

// @ts-check
import { digit, ivr, log, play, serve } from "./hookswitch/hookswitch.js";

/** One object of this lives as long as one call. */
export class Greeter {
  greeted = false;

  /**
   * A call comes in.
   * @param {import("./hookswitch/types.js").NewCallRequest} call
   */
  newCall(call) {
    log.info(`call from ${call.callingParty} to ${call.calledParty}`);
    return ivr();
  }

  /**
   * The call is up, or the command before has ended.
   * @param {import("./hookswitch/types.js").IvrRequest} request
   */
  getIvrCommand(request) {
    if (!this.greeted) {
      this.greeted = true;
      return play("greeting.wav").bargeInOn("all").collect(1, { timeout: 5 });
    }
    return play(digit(request) ? "thanks.wav" : "goodbye.wav").thenHangup();
  }
}

export const { handler, notifications } = serve(new Greeter());
