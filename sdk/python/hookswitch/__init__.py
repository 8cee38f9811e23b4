"""What a Python handler is written with: answers that read like what happens, and `serve`, which makes a handler of an object.

Behind every answer stands the record of the contract (`types`), so whatever has no method here is set as a field of it.
"""

import dataclasses
import json
import pathlib
import sys
import typing

try:
    import wit_world
except ModuleNotFoundError:
    # Outside of a component, in tests and editors, the bindings lie where `hookswitch guest build` has written them.
    sys.path.append(str(pathlib.Path(__file__).parent.parent / "build" / "bindings"))

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log as _log
from wit_world.imports import types

_DEFAULTS = {}


def _default(annotation):
    if typing.get_origin(annotation) is typing.Union and type(None) in typing.get_args(annotation):
        return lambda: None
    if typing.get_origin(annotation) is list:
        return list
    return {bool: bool, int: int, float: float, str: str}.get(annotation)


def fill(record, **given):
    """A record of the contract in which only some fields are said: the others are absent, empty, false or zero."""
    if record not in _DEFAULTS:
        made = ((field.name, _default(field.type)) for field in dataclasses.fields(record))
        _DEFAULTS[record] = [(name, make) for name, make in made if make]
    for name, make in _DEFAULTS[record]:
        if name not in given:
            given[name] = make()
    return record(**given)


class log:
    """Lines in the tenant's log; `hookswitch guest logs` shows them. Never put digits, keys or tokens in one."""

    @staticmethod
    def debug(line):
        _log.write(_log.Level.DEBUG, str(line))

    @staticmethod
    def info(line):
        _log.write(_log.Level.INFO, str(line))

    @staticmethod
    def warn(line):
        _log.write(_log.Level.WARN, str(line))

    @staticmethod
    def error(line):
        _log.write(_log.Level.ERROR, str(line))


_CODES = {
    "busy": types.DropCode_Busy,
    "decline": types.DropCode_Decline,
    "reject": types.DropCode_Reject,
    "noAnswer": types.DropCode_NoAnswer,
    "unavailable": types.DropCode_Unavailable,
    "notFound": types.DropCode_NotFound,
    "forbidden": types.DropCode_Forbidden,
    "gone": types.DropCode_Gone,
    "timeout": types.DropCode_Timeout,
    "congestion": types.DropCode_Congestion,
    "notAcceptable": types.DropCode_NotAcceptable,
}


class Route:
    """Where a party goes: the answer to `new_call` and `call_event`."""

    def __init__(self, routing):
        self.routing = routing

    def remember(self, session_reference):
        """JSON text, up to 4096 bytes, that every later request carries as `info.session_reference`, also after a restart of the handler."""
        return self.set(session_reference=session_reference)

    def ring_for(self, seconds):
        """Of a call: give up after so many seconds, 1 to 300; 60 if not given. `call_event` decides then."""
        return self.set(max_ring_time_ms=seconds * 1000)

    def record(self, file_name):
        """Of a call: record the connection under this name."""
        return self.set(call_recording=True, recording_file_name=file_name)

    def greet(self, caller=None, callee=None, play_mode=None):
        """Of a call: what each is told after the callee answered, by the phrases of an `Ivr`."""
        phrases = [words.command.phrases if words else [] for words in (caller, callee)]
        return self.set(greeting=types.Greeting(play_mode=play_mode, caller=phrases[0], callee=phrases[1]))

    def monitored_by(self, dest_addr):
        """Of a call: this SIP URI is called too, hears both parties and is heard by nobody."""
        return self.set(monitor=types.MonitorLeg(dest_addr=dest_addr, sip_from=None, p_headers=[], x_headers=[], extra=[]))

    def set(self, **fields):
        """Everything else that the record behind this answer has, by its fields."""
        for name, value in fields.items():
            if not hasattr(self.routing.value, name):
                raise AttributeError(f"{type(self.routing.value).__name__} has no {name}")
            setattr(self.routing.value, name, value)
        return self


def ivr():
    """Answer the call; `get_ivr_command` is asked next."""
    return Route(types.Routing_Ivr(fill(types.IvrAction)))


def drop(code="decline"):
    """Refuse or release: a SIP status from 400 to 699, or a name: busy, decline, reject, noAnswer, unavailable, notFound, forbidden, gone,
    timeout, congestion, notAcceptable."""
    if isinstance(code, str) and code not in _CODES:
        raise ValueError(f"drop: no code is called {code}")
    drop_code = _CODES[code]() if isinstance(code, str) else types.DropCode_SipCode(code)
    return Route(types.Routing_Drop(fill(types.DropAction, drop_code=drop_code)))


def call(dest_addr):
    """Call this SIP URI and connect the two. The tenant must be allowed to call it."""
    return Route(types.Routing_Call(fill(types.OutboundCall, dest_addr=dest_addr)))


def redirect(*contacts):
    """302 with these SIP URIs, the best first. Only an unanswered call can be redirected."""
    return Route(types.Routing_Redirect(fill(types.RedirectAction, status=302, contacts=list(contacts))))


def join(participant_id):
    """Connect with a participant of this session that is not connected."""
    return Route(types.Routing_Join(fill(types.JoinAction, participant_id=participant_id)))


class Ivr:
    """One command of the IVR: phrases, then digits if asked for, then the next `get_ivr_command`, or the end."""

    def __init__(self):
        self.command = fill(types.IvrCommand, barge_in=types.BargeIn.NONE)

    def phrase(self, phrase):
        """Any phrase of the contract."""
        self.command.phrases.append(phrase)
        return self

    def play(self, file_name):
        """Plays a file of the tenant's prompts."""
        return self.phrase(types.Phrase_File(fill(types.FilePhrase, file_name=file_name)))

    def tone(self, hz, ms=1000):
        """Plays frequencies at once, for so many milliseconds."""
        return self.phrase(types.Phrase_Tone(types.TonePhrase(hz=list(hz), level_dbm0=-15.0, on_ms=1000, off_ms=0, total_ms=ms)))

    def silence(self, ms):
        return self.phrase(types.Phrase_Silence(ms))

    def echo(self, seconds):
        """Sends back what the caller says for so many seconds."""
        return self.phrase(types.Phrase_Echo(seconds * 1000))

    def play_url(self, url, *, keep_for=None, refresh=False, keep_as=None):
        """Plays audio from elsewhere, within the tenant's allowed origins. `keep_for` is a `types.CacheTime`, a week if not given; `keep_as` makes
        it a prompt of the tenant."""
        made = {"cache_time_to_live": keep_for, "refresh_cache": refresh, "file_name": keep_as}
        return self.phrase(types.Phrase_Url(fill(types.UrlPhrase, url=url, **made)))

    def speak(self, text, language="en", **kept):
        """Speaks a text by the node's own engine; the rest as in `play_url`."""
        return self.tts("local", {"text": text, "language": language}, **kept)

    def tts(self, engine, parameters, *, keep_for=None, refresh=False, keep_as=None):
        """Speaks by an engine (`local`, `awstts`, `googletts`), with its parameters as a dict."""
        made = {"cache_time_to_live": keep_for, "refresh_cache": refresh, "file_name": keep_as}
        return self.phrase(types.Phrase_Tts(fill(types.TtsPhrase, engine=engine, parameters=json.dumps(parameters), **made)))

    def say(self, kind, value, language):
        """Says a value, e.g. `say("number", "42", "en-GB")`."""
        return self.phrase(types.Phrase_Say(fill(types.SayPhrase, kind=kind, value=value, language=language)))

    def record(self, file_name, *, beep=False, max_seconds=None, stop_on=None, **options):
        """Records the caller; `options` are further fields of `RecordingOptions`."""
        longest = None if max_seconds is None else max_seconds * 1000
        options = {"file_name": file_name, "beep": beep, "max_duration_ms": longest, "stop_digits": stop_on, **options}
        return self.phrase(types.Phrase_Record(fill(types.RecordingOptions, **options)))

    def tell_when_recorded(self):
        """`notify` hears of it when a recording of this command is stored."""
        self.command.recorded_callback = True
        return self

    def collect(self, max_digits, *, timeout=None, between=None, end_on="", **collect):
        """Then wait for so many digits; the first for `timeout` seconds (30 if not given), each further one for `between` (3)."""
        ms = {"first_timeout_ms": timeout, "between_timeout_ms": between}
        ms = {name: None if seconds is None else seconds * 1000 for name, seconds in ms.items()}
        self.command.dtmf = fill(types.Collect, max_digits=max_digits, termination_keys=end_on, **ms, **collect)
        return self

    def barge_in(self, what=types.BargeIn.ALL):
        """A digit ends all phrases, or only the one that plays (`types.BargeIn.CURRENT`)."""
        self.command.barge_in = what
        return self

    def background(self, source, pause=0):
        """Loops a file, or audio of an address, under everything, 15 dB down while phrases play, until `stop_background` or the end of the IVR."""
        is_url = source.startswith(("https://", "http://"))
        kind = types.AudioSource_Url if is_url else types.AudioSource_File
        prompt = types.BackgroundPrompt(source=kind(source), repeat_pause_ms=pause * 1000, extra=[])
        self.command.background = types.Background_Play(prompt)
        return self

    def stop_background(self):
        self.command.background = types.Background_Stop()
        return self

    def then_hangup(self):
        """Release the party after the phrases."""
        self.command.hangup = True
        return self

    def then_route(self, route):
        """Leave the IVR after the phrases."""
        self.command.routing = route.routing
        return self

    def remember(self, session_reference):
        """As `Route.remember`."""
        self.command.session_reference = session_reference
        return self


def play(file_name):
    return Ivr().play(file_name)


def play_url(url, **kept):
    return Ivr().play_url(url, **kept)


def speak(text, language="en", **kept):
    return Ivr().speak(text, language, **kept)


def tone(hz, ms=1000):
    return Ivr().tone(hz, ms)


def echo(seconds):
    return Ivr().echo(seconds)


def record(file_name, **options):
    return Ivr().record(file_name, **options)


def hangup():
    return Ivr().then_hangup()


def digits(request):
    """The digits that the last command collected; empty if none came."""
    return request.dtmf_params.dtmf_match if request.dtmf_params else ""


def digit(request):
    """The digit that the last command collected, if it was exactly one."""
    pressed = digits(request)
    return pressed if len(pressed) == 1 else None


def header(new_call, name):
    """The first value of an `X-` or `P-` header of the call."""
    return next((value for own, value in new_call.x_headers + new_call.p_headers if own == name.lower()), None)


def failure(event):
    """The status with which a party could not be reached or was lost, 480 where there is none; None for any other event."""
    if not isinstance(event.event, (types.CallEventKind_CallingPartyFailure, types.CallEventKind_CalledPartyFailure)):
        return None
    # What is no refusal cannot be passed on as one.
    return event.sip_code if event.sip_code is not None and 400 <= event.sip_code <= 699 else 480


def serve(hooks):
    """Make a handler: `Handler, Notifications = serve(Menu())`. The object lives as long as one call. What a hook raises is its failure: the
    tenant's log shows it, and the tenant's fallback decides. Without `call_event`, who is left of two parties is released."""

    def answer(hook, request):
        try:
            made = hook(request)
            return made.routing if isinstance(made, Route) else made.command if isinstance(made, Ivr) else made
        except Err:
            raise
        except Exception as error:
            raise Err(types.Failure(f"{type(error).__name__}: {error}")) from None

    class Handler(exports.Handler):
        def new_call(self, call):
            return answer(hooks.new_call, call)

        def get_ivr_command(self, request):
            return answer(hooks.get_ivr_command, request)

        def call_event(self, event):
            return answer(getattr(hooks, "call_event", lambda _: drop("decline")), event)

    class Notifications(exports.Notifications):
        def notify(self, news):
            # Nobody waits for an answer to news: what goes wrong is told to the log alone.
            try:
                getattr(hooks, "notify", lambda _: None)(news)
            except Exception as error:
                log.error(f"{type(error).__name__}: {error}")

    return Handler, Notifications
