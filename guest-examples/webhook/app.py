#!/usr/bin/env python3
"""An application of the mediaservice API: what its calls do is decided here, by HTTP. Python's standard library alone.

usage: app.py [--port 9000] [--address 127.0.0.1] [--key JWK-FILE] [--journal FILE]

Called numbers: `ivr` (1: goodbye, 2: the digits are said back), `busy`, `connect` (calls the address in header X-Dest), and how a bad
application looks: `broken`, `empty`, `nonsense`, `slow`, `lost`. Numbers in IN mode are the menu too. With --key, the public half of the tenant's callback key as JWK, callbacks
that are not signed by it are refused. With --journal, each callback becomes a line of JSON in that file.
"""

import argparse
import base64
import hashlib
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOODBYE = {"phrases": [{"format": "file", "fileName": "goodbye.wav"}], "hangup": True}
MENU = {
    "phrases": [{"format": "file", "fileName": "welcome-menu.wav"}],
    "bargeIn": "all",
    "dtmf": {"flush": True, "maxDigits": 1, "firstTimeout": 10, "betweenTimeout": 3, "terminationKey": "#"},
}


def new_call(call):
    number = call["calledParty"]
    if number == "busy":
        return {"action": "drop", "dropCode": "busy"}
    if number == "connect":
        return {"action": "call", "destAddr": call["xHeaders"].get("x-dest", ""), "maxRingTime": 20, "sessionReferenceId": 20000}
    # Whatever is given here comes back with every later callback of the session.
    return {"action": "ivr", "sessionReferenceId": {"number": number, "asked": 0}}


def get_ivr_command(request):
    reference = request["sessionReferenceId"]
    reference["asked"] += 1
    digits = request.get("dtmfParams", {}).get("dtmfMatch", "")
    if digits == "1" or reference["asked"] > 3:
        return {**GOODBYE, "sessionReferenceId": reference}
    return {**MENU, "sessionReferenceId": reference}


def call_event(event):
    return {"action": "drop", "dropCode": "decline"}


def get_call_identifier(request):
    # A service node would look up which call it has sent to this number.
    return {"sessionId": request["sessionId"], "sessionReferenceId": {"number": request["calledParty"], "asked": 0}}


DECISIONS = {"newCall": new_call, "getIvrCommand": get_ivr_command, "callEvent": call_event, "getCallIdentifier": get_call_identifier}


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed(authorization, jwk, audience):
    """Whether this is a JWT (RS256) by that key, for us and for now."""
    try:
        scheme, token = authorization.split(" ")
        header, payload, signature = token.split(".")
        claims = json.loads(unpadded(payload))
        n, e = (int.from_bytes(unpadded(jwk[part]), "big") for part in ("n", "e"))
        size = (n.bit_length() + 7) // 8
        found = pow(int.from_bytes(unpadded(signature), "big"), e, n).to_bytes(size, "big")
        # RFC 8017 9.2: EMSA-PKCS1-v1_5 with SHA-256.
        digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(f"{header}.{payload}".encode()).digest()
        wanted = b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest
        genuine = scheme == "Bearer" and json.loads(unpadded(header))["alg"] == "RS256" and found == wanted
        return genuine and claims["aud"] == audience and claims["iat"] - 60 <= time.time() < claims["exp"] + 60
    except (AttributeError, ValueError, KeyError, TypeError):
        return False


class Callbacks(BaseHTTPRequestHandler):
    # Connections stay open from one callback to the next.
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.rsplit("/", 1)[-1]
        options = self.server.options
        genuine = None
        if options.key:
            genuine = signed(self.headers["Authorization"], options.key, f"http://{options.address}:{options.port}")
        if options.journal:
            line = {"callback": name, "body": body, "signed": genuine, "connection": self.client_address[1]}
            with open(options.journal, "a", encoding="utf-8") as journal:
                journal.write(json.dumps(line) + "\n")
        if genuine is False:
            return self.answer(401, b"")
        number = body.get("calledParty")
        if name == "newCall" and number in ("broken", "empty", "nonsense", "slow", "lost"):
            if number == "lost":
                self.close_connection = True
                return None
            if number == "slow":
                time.sleep(8)
            return self.answer(500 if number == "broken" else 200, b"<html>" if number == "nonsense" else b"")
        decide = DECISIONS.get(name)
        # News is only acknowledged.
        return self.answer(200, json.dumps(decide(body)).encode()) if decide else self.answer(204, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        print(*arguments[1:], flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--key", type=lambda path: json.load(open(path, encoding="utf-8")))
    parser.add_argument("--journal")
    options = parser.parse_args()
    server = ThreadingHTTPServer((options.address, options.port), Callbacks)
    server.daemon_threads = True
    server.options = options
    print(f"listening on http://{options.address}:{options.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
