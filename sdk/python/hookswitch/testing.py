"""A handler's tests without wasm, node or phone: requests made with few words, and a log that is kept in `lines`."""

from hookswitch import fill, types
from wit_world.imports import log

lines = []
log.write = lambda level, line: lines.append(f"{level.name.lower()}: {line}")


def _info(session_reference=None):
    return fill(types.SessionInfo, session_id="session-1", session_reference=session_reference, domain="test.localhost")


def new_call(called_party, *, calling_party="alice", headers=None):
    """A call to this number; `headers` as `{"x-dest": "sip:…"}`."""
    pairs = list((headers or {}).items())
    return fill(
        types.NewCallRequest,
        info=_info(),
        calling_party_privacy=types.Privacy.PUBLIC,
        calling_party=calling_party,
        from_user=calling_party,
        called_party=called_party,
        x_headers=[pair for pair in pairs if pair[0].startswith("x-")],
        p_headers=[pair for pair in pairs if pair[0].startswith("p-")],
    )


def ivr_request(digits=None, *, session_reference=None, recording=None):
    """The node asks for the next command: the first time, or when so much was pressed; `""` is a collection that nobody answered."""
    params = None
    if digits is not None:
        reason = types.DtmfReason_MaxDigits() if digits else types.DtmfReason_FirstTimeout()
        params = fill(types.DtmfParams, dtmf_match=digits, reason=reason)
    return fill(types.IvrRequest, info=_info(session_reference), dtmf_params=params, recording=recording)


def call_event(kind, *, sip_code=None):
    """A party left: `call_event(types.CallEventKind_CalledPartyFailure(), sip_code=486)`."""
    return fill(types.CallEventRequest, info=_info(), event=kind, sip_code=sip_code)


def plays(answer):
    """The files that a command plays."""
    return [phrase.value.file_name for phrase in answer.phrases if isinstance(phrase, types.Phrase_File)]
