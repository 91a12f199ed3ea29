"""The protocol of JBD (Xiaoxiang, Overkill Solar, Liontron …) batteries, so that their frames become named values.

Sources: the vendor's "General Protocol" V4, and V11 of 2023-03-21. `frames` finds and makes frames, `answers` reads their
fields, `names` makes measurements of them, `password` opens a module that wants one, `encoder` plays the battery.
"""

from services.protocols.jbd.encoder import answer
from services.protocols.jbd.frames import CHANNELS, REQUESTS, assembler
from services.protocols.jbd.names import decode_lines, measurements
from services.protocols.jbd.password import Unlocking

MUTE = "A module behind the app's password stays mute: name a secret with it (password: secret:NAME), or take it off in the maker's app."
"""What people should know where a battery answers nothing."""

__all__ = ["CHANNELS", "MUTE", "REQUESTS", "Unlocking", "answer", "assembler", "decode_lines", "measurements"]
