"""The handler of `guest-examples/menu`, in Python: the same numbers, the same answers. Begin at `new_call`, then read `get_ivr_command`:
it is asked once when the call is answered, and again each time a command has ended."""

import json

from hookswitch import Ivr, call, digit, drop, echo, failure, hangup, header, ivr, log, play, serve, types

# So often the menu is said to somebody who does not choose.
TRIES = 3


class Menu:
    # What the caller is doing, so what the request that comes next is about.
    step = "begin"
    misses = 0
    # Whom the caller wants to be connected to, from his header `X-Dest`.
    destination = None

    def new_call(self, request):
        self.destination = header(request, "x-dest")
        number = request.called_party
        if number in ("ivr", "voicemail", "echo"):
            # Remembered, so that a restarted handler knows where the caller is.
            return ivr().remember(json.dumps(number))
        if number == "bridge":
            return self.connect(request.info.session_id) or drop("notFound")
        return drop("decline" if number == "reject" else "notFound")

    def get_ivr_command(self, request):
        number = request.info.session_reference
        if self.step == "begin":
            if number == '"voicemail"':
                return self.record(Ivr(), request)
            if number == '"echo"':
                return self.go("echo", echo(600).barge_in())
            return self.choose(Ivr())
        if self.step == "choosing":
            return self.chosen(request)
        if self.step == "recording":
            return self.go("leaving", play("thanks.wav").play("goodbye.wav").then_hangup())
        if self.step == "echo":
            # From the number `echo` there is no menu to go back to.
            return self.choose(Ivr()) if number == '"ivr"' else self.leave()
        return hangup()

    def call_event(self, event):
        """One of two is left, or the callee could not be reached: the call is over, and an unanswered caller hears why."""
        return drop(failure(event) or 603)

    def notify(self, news):
        if isinstance(news, types.Notification_RecordingReady):
            log.info(f"message {news.value.file_name} of {news.value.file_size} bytes")
        elif isinstance(news, types.Notification_Alarm):
            log.warn(news.value.error)

    def go(self, step, command):
        self.step = step
        return command

    def choose(self, before):
        return self.go("choosing", before.play("welcome-menu.wav").barge_in().collect(1, timeout=8))

    def chosen(self, request):
        key = digit(request)
        if key == "1":
            return self.record(play("leave-message.wav"), request)
        if key == "2":
            # The collection takes the key that ends the echo, so that the menu does not hear it as a choice.
            return self.go("echo", play("echo.wav").echo(60).barge_in().collect(1, timeout=1))
        if key == "3":
            route = self.connect(request.info.session_id)
            return Ivr().then_route(route) if route else self.choose(play("no-destination.wav"))
        if key == "0":
            return self.choose(Ivr())
        self.misses += 1
        if self.misses >= TRIES:
            return self.leave()
        return self.choose(play("invalid.wav") if key else Ivr())

    def record(self, before, request):
        file_name = f"message-{request.info.session_id}.wav"
        return self.go("recording", before.record(file_name, beep=True, max_seconds=600, stop_on="#").tell_when_recorded())

    def connect(self, session_id):
        """To where the caller wants to be connected. Which addresses the node calls at all is up to the operator."""
        return call(self.destination).ring_for(30).record(f"bridge-{session_id}.wav") if self.destination else None

    def leave(self):
        return self.go("leaving", play("goodbye.wav").then_hangup())


Handler, Notifications = serve(Menu())
