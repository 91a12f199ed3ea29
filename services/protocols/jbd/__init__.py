"""The protocol of JBD (Xiaoxiang, Overkill Solar, Liontron …) batteries, so that their frames become named values.

Sources: the vendor's "General Protocol" V4, and V11 of 2023-03-21. `frames` finds and makes frames, `answers` reads their
fields, `names` makes measurements of them, `encoder` plays the battery.
"""

from services.protocols.jbd.encoder import answer
from services.protocols.jbd.frames import CHANNELS, REQUESTS, assembler
from services.protocols.jbd.names import decode_lines, measurements

MUTE = "A module behind the app's password stays mute: take the password off in the maker's app."
"""What people should know where a battery answers nothing."""

__all__ = ["CHANNELS", "MUTE", "REQUESTS", "answer", "assembler", "decode_lines", "measurements"]
