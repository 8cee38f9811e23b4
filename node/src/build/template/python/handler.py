"""Answers, plays a greeting, says back whether a key was pressed, and hangs up. Begin at `new_call`."""

from hookswitch import digit, ivr, log, play, serve


class Greeter:
    """One object of this lives as long as one call."""

    greeted = False

    def new_call(self, call):
        """A call comes in."""
        log.info(f"call from {call.calling_party} to {call.called_party}")
        return ivr()

    def get_ivr_command(self, request):
        """The call is up, or the command before has ended."""
        if not self.greeted:
            self.greeted = True
            return play("greeting.wav").barge_in().collect(1, timeout=5)
        return play("thanks.wav" if digit(request) else "goodbye.wav").then_hangup()


Handler, Notifications = serve(Greeter())
