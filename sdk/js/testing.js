// A handler's tests without wasm, node or phone: `node --import ./hookswitch/testing.js --test`. The node's own interfaces become empty
// ones here, and requests are made with few words.

import { register } from "node:module";

if (process.execArgv.some((argument) => argument.includes("testing.js"))) {
  const stub = "export default new Proxy({}, { get: () => () => undefined });";
  const hooks = `export const resolve = (name, context, next) =>
    name.startsWith("hookswitch:") ? { url: "data:text/javascript," + ${JSON.stringify(encodeURIComponent(stub))}, shortCircuit: true } : next(name, context);`;
  register(`data:text/javascript,${encodeURIComponent(hooks)}`);
}

const info = (sessionReference) => ({
  sessionId: "session-1",
  sessionReference: sessionReference ?? null,
  domain: "test.localhost",
  ivrServer: "127.0.0.1",
  traceId: "trace-1",
  siteId: null,
  transactionId: "transaction-1",
  restarted: false,
  extra: [],
});

/** A call to this number; `headers` as `{ "x-dest": "sip:…" }`. */
export const newCall = (calledParty, { from = "alice", headers = {} } = {}) => ({
  info: info(),
  participantId: "participant-1",
  sipCallId: "call-1",
  callingPartyPrivacy: "public",
  callingParty: from,
  displayName: null,
  fromUser: from,
  xHeaders: Object.entries(headers).filter(([name]) => name.startsWith("x-")),
  pHeaders: Object.entries(headers).filter(([name]) => name.startsWith("p-")),
  calledParty,
  diversionHeaders: null,
  referredBy: null,
  paiNumber: null,
  subject: null,
  srcAddr: "192.0.2.1",
  extra: [],
});

/** The node asks for the next command: the first time, or (`digits`) when so much was pressed; `""` is a collection that nobody answered. */
export const ivrRequest = ({ digits, sessionReference, recording = null } = {}) => ({
  info: info(sessionReference),
  participantId: "participant-1",
  replyId: "reply-1",
  dtmfBuffer: digits || null,
  dtmfParams:
    digits === undefined
      ? null
      : { dtmfMatch: digits, reason: { tag: digits ? "max-digits" : "first-timeout" }, matchedTerminationKey: null, encryption: null },
  recording,
  interrupted: false,
  extra: [],
});

/** A party left: `callEvent("called-party-failure", { sipCode: 486 })`. */
export const callEvent = (kind, { sipCode = null } = {}) => ({
  info: info(),
  event: { tag: kind },
  connectionId: "connection-1",
  participantId: "participant-2",
  user: "bob",
  remoteParticipantId: "participant-1",
  remoteUser: "alice",
  replyId: "reply-1",
  sipCode,
  reasonText: null,
  q850: null,
  extra: [],
});

/** The files that a command plays. */
export const plays = (command) => command.phrases.filter((phrase) => phrase.tag === "file").map((phrase) => phrase.val.fileName);
