"""Make a store's files again from what `constellation dump` wrote; files that exist are replaced.

Stop the service before: `systemctl stop constellation@rrd`.
"""

from services.commands.dump import add_arguments, main

__all__ = ["add_arguments", "main"]
