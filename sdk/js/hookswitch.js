// What a JavaScript handler is written with: answers that read like what happens, and `serve`, which makes a handler of an object.
//
// Every answer is the plain record of the contract (`types.d.ts`, made from `wit/`), so whatever has no method here is set as a field.

import logging from "hookswitch:call/log@0.1.0";

/** Lines in the tenant's log; `hookswitch guest logs` shows them. Never put digits, keys or tokens in one. */
export const log = Object.freeze({
  debug: (line) => logging.write("debug", String(line)),
  info: (line) => logging.write("info", String(line)),
  warn: (line) => logging.write("warn", String(line)),
  error: (line) => logging.write("error", String(line)),
});

const CODES = {
  busy: "busy",
  decline: "decline",
  reject: "reject",
  noAnswer: "no-answer",
  unavailable: "unavailable",
  notFound: "not-found",
  forbidden: "forbidden",
  gone: "gone",
  timeout: "timeout",
  congestion: "congestion",
  notAcceptable: "not-acceptable",
};

/** Where a party goes: the answer to `newCall` and `callEvent`. */
export class Route {
  constructor(tag, val) {
    this.tag = tag;
    this.val = val;
  }
  /** JSON text, up to 4096 bytes, that every later request carries as `info.sessionReference`, also after a restart of the handler. */
  remember(sessionReference) {
    this.val.sessionReference = sessionReference;
    return this;
  }
  /** Of a call: give up after so many seconds, 1 to 300; 60 if not given. `callEvent` decides then. */
  ringFor(seconds) {
    return this.with({ maxRingTimeMs: seconds * 1000 });
  }
  /** Of a call: record the connection under this name. */
  record(fileName) {
    return this.with({ callRecording: true, recordingFileName: fileName });
  }
  /** Of a call: what each is told after the callee answered, by phrases of `new Ivr()`: `{ caller, callee, playMode }`. */
  greet({ caller, callee, playMode = null }) {
    return this.with({ greeting: { playMode, caller: caller?.phrases ?? [], callee: callee?.phrases ?? [] } });
  }
  /** Of a call: this SIP URI is called too, hears both parties and is heard by nobody. */
  monitoredBy(destAddr) {
    return this.with({ monitor: { destAddr, sipFrom: null, pHeaders: [], xHeaders: [], extra: [] } });
  }
  /** Everything else that the record behind this answer has, by its fields. */
  with(fields) {
    Object.assign(this.val, fields);
    return this;
  }
}

/** Answer the call; `getIvrCommand` is asked next. */
export const ivr = () => new Route("ivr", { sessionReference: null, participantId: null, extra: [] });

/** Refuse or release: a SIP status from 400 to 699, or a name: `"busy"`, `"decline"`, `"notFound"`, ... (`DropName` has all). */
export function drop(code = "decline") {
  if (typeof code !== "number" && !(code in CODES)) throw new Error(`drop: no code is called ${code}`);
  const dropCode = typeof code === "number" ? { tag: "sip-code", val: code } : { tag: CODES[code] };
  return new Route("drop", { dropCode, sessionReference: null, extra: [] });
}

/** Call this SIP URI and connect the two. The tenant must be allowed to call it. */
export const call = (destAddr) =>
  new Route("call", {
    destAddr,
    maxRingTimeMs: null,
    callRecording: false,
    recordingFileName: null,
    recording: null,
    ringbackTone: null,
    greeting: null,
    sipFrom: null,
    sipTo: null,
    sipPai: null,
    sipRpid: null,
    sipDiversion: null,
    sipDiversionParameters: [],
    displayName: null,
    callerPrivacy: false,
    contactParameters: [],
    contactUserParameters: [],
    xHeaders: [],
    pHeaders: [],
    copyHeaders: [],
    participantId: null,
    monitor: null,
    sessionReference: null,
    extra: [],
  });

/** 302 with these SIP URIs, the best first. Only an unanswered call can be redirected. */
export const redirect = (...contacts) => new Route("redirect", { status: 302, contacts, sessionReference: null, extra: [] });

/** Connect with a participant of this session that is not connected. */
export const join = (participantId) =>
  new Route("join", { participantId, sessionReference: null, callRecording: false, recordingFileName: null, recording: null, extra: [] });

/** What becomes of audio that was fetched or synthesised. */
const made = ({ keepFor, refresh, keepAs }) => ({
  cacheTimeToLive: keepFor ?? null,
  refreshCache: refresh ?? false,
  fileName: keepAs ?? null,
  extra: [],
});

/** One command of the IVR: phrases, then digits if asked for, then the next `getIvrCommand`, or the end. */
export class Ivr {
  sessionId = null;
  sessionReference = null;
  phrases = [];
  dtmf = null;
  bargeIn = "none";
  background = null;
  hangup = false;
  recordedCallback = false;
  nextAfterMs = 0;
  routing = null;
  ext = [];

  /** Any phrase of the contract. */
  phrase(phrase) {
    this.phrases.push(phrase);
    return this;
  }
  /** Plays a file of the tenant's prompts. */
  play(fileName) {
    return this.phrase({ tag: "file", val: { fileName, extra: [] } });
  }
  /** Plays frequencies at once, for so many milliseconds. */
  tone(hz, ms = 1000) {
    return this.phrase({ tag: "tone", val: { hz, levelDbm0: -15, onMs: 1000, offMs: 0, totalMs: ms } });
  }
  silence(ms) {
    return this.phrase({ tag: "silence", val: ms });
  }
  /** Sends back what the caller says for so many seconds. */
  echo(seconds) {
    return this.phrase({ tag: "echo", val: seconds * 1000 });
  }
  /** Plays audio from elsewhere, within the tenant's allowed origins. `kept`: `{ keepFor: "day", refresh: true, keepAs: "hello.wav" }`. */
  playUrl(url, kept = {}) {
    return this.phrase({ tag: "url", val: { url, ...made(kept) } });
  }
  /** Speaks a text by the node's own engine. */
  speak(text, language = "en", kept = {}) {
    return this.tts("local", { text, language }, kept);
  }
  /** Speaks by an engine (`local`, `awstts`, `googletts`), with its parameters as an object. */
  tts(engine, parameters, kept = {}) {
    return this.phrase({ tag: "tts", val: { engine, parameters: JSON.stringify(parameters), ...made(kept) } });
  }
  /** Says a value, e.g. `say("number", "42", "en-GB")`. */
  say(kind, value, language) {
    return this.phrase({ tag: "say", val: { kind, value, language, extra: [] } });
  }
  /** Records the caller; `{ beep, maxSeconds, stopOn }`, or any field of `RecordingOptions`. */
  record(fileName, { maxSeconds, stopOn, ...options } = {}) {
    const val = {
      controlId: null,
      clientContext: null,
      dialect: null,
      mode: null,
      queuePolicy: null,
      direction: null,
      channels: null,
      container: null,
      encoding: null,
      sampleRate: null,
      bitrateKbps: null,
      fileName,
      storageClass: null,
      beep: false,
      stopDigits: stopOn ?? null,
      stopDigitConsume: null,
      stopDigitTrim: null,
      initialSilenceMs: null,
      maxSilenceMs: null,
      maxDurationMs: maxSeconds === undefined ? null : maxSeconds * 1000,
      maxFileBytes: null,
      startOnVoice: false,
      sensitivity: null,
      pauseBehavior: null,
      encryption: null,
      announce: false,
      retentionMs: null,
      statusUrl: null,
      onCompleteUrl: null,
      onAvailableUrl: null,
      extra: [],
      ...options,
    };
    return this.phrase({ tag: "record", val });
  }
  /** `notify` hears `recording-ready` when a recording of this command is stored. */
  tellWhenRecorded() {
    this.recordedCallback = true;
    return this;
  }
  /** Then wait for so many digits; the first for `timeout` seconds (30 if not given), each further one for `between` (3). `endOn`: keys. */
  collect(maxDigits, { timeout, between, endOn, ...collect } = {}) {
    this.dtmf = {
      flush: false,
      maxDigits,
      firstTimeoutMs: timeout === undefined ? null : timeout * 1000,
      betweenTimeoutMs: between === undefined ? null : between * 1000,
      terminationKeys: endOn ?? "",
      encryption: null,
      ...collect,
    };
    return this;
  }
  /** A digit ends all phrases, or only the one that plays (`"current"`). */
  bargeInOn(what = "all") {
    this.bargeIn = what;
    return this;
  }
  /** Loops a file, or audio of an address, under everything, 15 dB down while phrases play, until `stopBackground` or the end of the IVR. */
  playInBackground(source, pauseSeconds = 0) {
    const tag = /^https?:/.test(source) ? "url" : "file";
    this.background = { tag: "play", val: { source: { tag, val: source }, repeatPauseMs: pauseSeconds * 1000, extra: [] } };
    return this;
  }
  stopBackground() {
    this.background = { tag: "stop" };
    return this;
  }
  /** Release the party after the phrases. */
  thenHangup() {
    this.hangup = true;
    return this;
  }
  /** Leave the IVR after the phrases. */
  thenRoute(route) {
    this.routing = route;
    return this;
  }
  /** As `Route.remember`. */
  remember(sessionReference) {
    this.sessionReference = sessionReference;
    return this;
  }
}

/** How a command begins; `new Ivr()` plays nothing yet. */
export const play = (fileName) => new Ivr().play(fileName);
export const playUrl = (url, kept) => new Ivr().playUrl(url, kept);
export const speak = (text, language, kept) => new Ivr().speak(text, language, kept);
export const tone = (hz, ms) => new Ivr().tone(hz, ms);
export const echo = (seconds) => new Ivr().echo(seconds);
export const record = (fileName, options) => new Ivr().record(fileName, options);
export const hangup = () => new Ivr().thenHangup();

/** The digits that the last command collected; empty if none came. */
export const digits = (request) => request.dtmfParams?.dtmfMatch ?? "";

/** The digit that the last command collected, if it was exactly one. */
export const digit = (request) => (digits(request).length === 1 ? digits(request) : undefined);

/** The first value of an `X-` or `P-` header of the call, or `undefined`. */
export function header(newCall, name) {
  const wanted = name.toLowerCase();
  return [...newCall.xHeaders, ...newCall.pHeaders].find(([key]) => key === wanted)?.[1];
}

/** The status with which a party could not be reached or was lost, 480 where there is none; `undefined` for any other event. */
export function failure(event) {
  if (!["calling-party-failure", "called-party-failure"].includes(event.event.tag)) return undefined;
  // What is no refusal cannot be passed on as one.
  return event.sipCode >= 400 && event.sipCode <= 699 ? event.sipCode : 480;
}

/**
 * Make a handler: `export const { handler, notifications } = serve(new Menu())`. The object lives as long as one call. What a hook throws
 * is its failure: the tenant's log shows it, and the tenant's fallback decides.
 */
export function serve(object) {
  const hook = (name, otherwise) => (request) => {
    try {
      return object[name] ? object[name](request) : otherwise();
    } catch (error) {
      throw { message: error instanceof Error ? `${error.name}: ${error.message} ${error.stack ?? ""}`.trim() : String(error?.message ?? error) };
    }
  };
  const missing = (name) => () => {
    throw new Error(`the handler has no ${name}`);
  };
  const notify = hook("notify", () => {});
  return {
    handler: {
      newCall: hook("newCall", missing("newCall")),
      getIvrCommand: hook("getIvrCommand", missing("getIvrCommand")),
      callEvent: hook("callEvent", () => drop("decline")),
    },
    notifications: {
      // Nobody waits for an answer to news: what goes wrong is told to the log alone.
      notify(news) {
        try {
          notify(news);
        } catch (error) {
          log.error(error.message);
        }
      },
    },
  };
}
