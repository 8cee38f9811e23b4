import assert from "node:assert/strict";
import test from "node:test";
import { Greeter } from "./handler.js";
import { ivrRequest, newCall, plays } from "./hookswitch/testing.js";

function answered() {
  const greeter = new Greeter();
  assert.equal(greeter.newCall(newCall("anything")).tag, "ivr");
  assert.deepEqual(plays(greeter.getIvrCommand(ivrRequest())), ["greeting.wav"]);
  return greeter;
}

test("a key is thanked for", () => {
  const command = answered().getIvrCommand(ivrRequest({ digits: "5" }));
  assert.deepEqual(plays(command), ["thanks.wav"]);
  assert.ok(command.hangup);
});

test("silence is not", () => {
  assert.deepEqual(plays(answered().getIvrCommand(ivrRequest({ digits: "" }))), ["goodbye.wav"]);
});
