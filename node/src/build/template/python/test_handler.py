import unittest

from handler import Greeter
from hookswitch import types
from hookswitch.testing import ivr_request, lines, new_call, plays


class Greets(unittest.TestCase):
    def setUp(self):
        self.greeter = Greeter()
        self.assertIsInstance(self.greeter.new_call(new_call("anything")).routing, types.Routing_Ivr)
        self.assertEqual(plays(self.greeter.get_ivr_command(ivr_request()).command), ["greeting.wav"])

    def test_a_key_is_thanked_for(self):
        command = self.greeter.get_ivr_command(ivr_request("5")).command
        self.assertEqual(plays(command), ["thanks.wav"])
        self.assertTrue(command.hangup)
        self.assertIn("info: call from alice to anything", lines)

    def test_silence_is_not(self):
        self.assertEqual(plays(self.greeter.get_ivr_command(ivr_request("")).command), ["goodbye.wav"])
