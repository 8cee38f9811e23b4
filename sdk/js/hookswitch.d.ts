// Types of hookswitch.js. The records behind the answers are in types.d.ts, the node's own offers in host.d.ts.

/// <reference path="./host.d.ts" />
import type {
  CacheTime,
  CallEventRequest,
  Collect,
  IvrCommand,
  IvrRequest,
  NewCallRequest,
  Notification,
  OutboundCall,
  Phrase,
  RecordingOptions,
  Routing,
} from "./types.js";

export * from "./types.js";

export const log: Readonly<Record<"debug" | "info" | "warn" | "error", (line: unknown) => void>>;

export type DropName =
  | "busy"
  | "decline"
  | "reject"
  | "noAnswer"
  | "unavailable"
  | "notFound"
  | "forbidden"
  | "gone"
  | "timeout"
  | "congestion"
  | "notAcceptable";

/** Where a party goes: a `Routing`, with ways to change it. */
export type Route = Routing & {
  remember(sessionReference: string): Route;
  ringFor(seconds: number): Route;
  record(fileName: string): Route;
  greet(words: { caller?: Ivr; callee?: Ivr; playMode?: "callee-first" | "caller-first" | "both" }): Route;
  monitoredBy(destAddr: string): Route;
  with(fields: Partial<OutboundCall>): Route;
};

export function ivr(): Route;
export function drop(code?: number | DropName): Route;
export function call(destAddr: string): Route;
export function redirect(...contacts: string[]): Route;
export function join(participantId: string): Route;

export type RecordSettings = { maxSeconds?: number; stopOn?: string } & Partial<RecordingOptions>;
export type CollectSettings = { timeout?: number; between?: number; endOn?: string } & Partial<Collect>;

/** Of audio that is fetched or synthesised: how long the node keeps it, whether anew, and as which prompt. */
export type Kept = { keepFor?: CacheTime; refresh?: boolean; keepAs?: string };

export class Ivr implements IvrCommand {
  sessionId: IvrCommand["sessionId"];
  sessionReference: IvrCommand["sessionReference"];
  phrases: Phrase[];
  dtmf: IvrCommand["dtmf"];
  bargeIn: IvrCommand["bargeIn"];
  background: IvrCommand["background"];
  hangup: boolean;
  recordedCallback: boolean;
  nextAfterMs: number;
  routing: IvrCommand["routing"];
  ext: IvrCommand["ext"];
  phrase(phrase: Phrase): this;
  play(fileName: string): this;
  tone(hz: number[], ms?: number): this;
  silence(ms: number): this;
  echo(seconds: number): this;
  playUrl(url: string, kept?: Kept): this;
  speak(text: string, language?: string, kept?: Kept): this;
  tts(engine: "local" | "awstts" | "googletts", parameters: object, kept?: Kept): this;
  say(kind: string, value: string, language: string): this;
  record(fileName: string, settings?: RecordSettings): this;
  tellWhenRecorded(): this;
  collect(maxDigits: number, settings?: CollectSettings): this;
  bargeInOn(what?: "all" | "current"): this;
  playInBackground(source: string, pauseSeconds?: number): this;
  stopBackground(): this;
  thenHangup(): this;
  thenRoute(route: Routing): this;
  remember(sessionReference: string): this;
}

export function play(fileName: string): Ivr;
export function playUrl(url: string, kept?: Kept): Ivr;
export function speak(text: string, language?: string, kept?: Kept): Ivr;
export function tone(hz: number[], ms?: number): Ivr;
export function echo(seconds: number): Ivr;
export function record(fileName: string, settings?: RecordSettings): Ivr;
export function hangup(): Ivr;

export function digits(request: IvrRequest): string;
export function digit(request: IvrRequest): string | undefined;
export function header(newCall: NewCallRequest, name: string): string | undefined;
export function failure(event: CallEventRequest): number | undefined;

/** What a handler has. Without `callEvent`, who is left of two parties is released. */
export interface Hooks {
  newCall(call: NewCallRequest): Routing;
  getIvrCommand(request: IvrRequest): IvrCommand;
  callEvent?(event: CallEventRequest): Routing;
  notify?(news: Notification): void;
}

export function serve(hooks: Hooks): {
  handler: Required<Pick<Hooks, "newCall" | "getIvrCommand" | "callEvent">>;
  notifications: Required<Pick<Hooks, "notify">>;
};
