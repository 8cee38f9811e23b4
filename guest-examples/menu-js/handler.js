// The handler of `guest-examples/menu`, in JavaScript: the same numbers, the same answers. Begin at `newCall`, then read
// `getIvrCommand`: it is asked once when the call is answered, and again each time a command has ended.

import { Ivr, call, digit, drop, echo, failure, hangup, header, ivr, log, play, serve } from "./hookswitch/hookswitch.js";

/** So often the menu is said to somebody who does not choose. */
const TRIES = 3;

class Menu {
  /** What the caller is doing, so what the request that comes next is about. */
  step = "begin";
  misses = 0;
  /** Whom the caller wants to be connected to, from his header `X-Dest`. */
  destination = undefined;

  newCall(request) {
    this.destination = header(request, "x-dest");
    switch (request.calledParty) {
      case "ivr":
      case "voicemail":
      case "echo":
        // Remembered, so that a restarted handler knows where the caller is.
        return ivr().remember(JSON.stringify(request.calledParty));
      case "bridge":
        return this.connect(request.info.sessionId) ?? drop("notFound");
      case "reject":
        return drop("decline");
      default:
        return drop("notFound");
    }
  }

  getIvrCommand(request) {
    const number = request.info.sessionReference;
    switch (this.step) {
      case "begin":
        if (number === '"voicemail"') return this.record(new Ivr(), request);
        if (number === '"echo"') return this.go("echo", echo(600).bargeInOn("all"));
        return this.choose(new Ivr());
      case "choosing":
        return this.chosen(request);
      case "recording":
        return this.go("leaving", play("thanks.wav").play("goodbye.wav").thenHangup());
      case "echo":
        // From the number `echo` there is no menu to go back to.
        return number === '"ivr"' ? this.choose(new Ivr()) : this.leave();
      default:
        return hangup();
    }
  }

  /** One of two is left, or the callee could not be reached: the call is over, and an unanswered caller hears why. */
  callEvent(event) {
    return drop(failure(event) ?? 603);
  }

  notify(news) {
    if (news.tag === "recording-ready") log.info(`message ${news.val.fileName} of ${news.val.fileSize} bytes`);
    if (news.tag === "alarm") log.warn(news.val.error);
  }

  go(step, command) {
    this.step = step;
    return command;
  }

  choose(before) {
    return this.go("choosing", before.play("welcome-menu.wav").bargeInOn("all").collect(1, { timeout: 8 }));
  }

  chosen(request) {
    const key = digit(request);
    switch (key) {
      case "1":
        return this.record(play("leave-message.wav"), request);
      case "2":
        // The collection takes the key that ends the echo, so that the menu does not hear it as a choice.
        return this.go("echo", play("echo.wav").echo(60).bargeInOn("all").collect(1, { timeout: 1 }));
      case "3": {
        const route = this.connect(request.info.sessionId);
        return route ? new Ivr().thenRoute(route) : this.choose(play("no-destination.wav"));
      }
      case "0":
        return this.choose(new Ivr());
      default:
        this.misses += 1;
        if (this.misses >= TRIES) return this.leave();
        return this.choose(key === undefined ? new Ivr() : play("invalid.wav"));
    }
  }

  record(before, request) {
    const fileName = `message-${request.info.sessionId}.wav`;
    return this.go("recording", before.record(fileName, { beep: true, maxSeconds: 600, stopOn: "#" }).tellWhenRecorded());
  }

  /** To where the caller wants to be connected. Which addresses the node calls at all is up to the operator. */
  connect(sessionId) {
    return this.destination === undefined ? undefined : call(this.destination).ringFor(30).record(`bridge-${sessionId}.wav`);
  }

  leave() {
    return this.go("leaving", play("goodbye.wav").thenHangup());
  }
}

export const { handler, notifications } = serve(new Menu());
