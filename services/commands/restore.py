"""Take a backup into the archive while it runs: what the archive has already stays as it is.

After the loss of the archive, start it (it makes an empty one), then restore.
"""

from services.commands.backup import add_arguments, main

__all__ = ["add_arguments", "main"]
