"""What systemd is told: ready, reloading, alive, stopping (sd_notify(3)); nothing where there is no systemd."""

import os
import socket
import time


def notify(**fields: object) -> None:
    """Send fields such as READY=1 or STATUS="…" to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    message = "\n".join(f"{name}={value}" for name, value in fields.items())
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
        try:
            datagram.sendto(message.encode(), target)
        except OSError:  # a service manager that has gone is no reason to stop measuring
            return


def reloading() -> None:
    """Say that a reload began; systemd 253 and later also want to know when, in the same message."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)


def watchdog_seconds() -> float | None:
    """How often systemd expects a sign of life, or None where it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    if not microseconds or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6
