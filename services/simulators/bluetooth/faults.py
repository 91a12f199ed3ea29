"""What can be made to go wrong between a battery and the service that reads it."""

from typing import Final

FAULTS: Final = {
    "plain": "nothing is wrong; ends every other fault",
    "mtu_247": "a whole answer comes in one notification",
    "single_byte_fragments": "an answer comes in notifications of one byte",
    "first_command_ignored": "the sleeping battery does not answer the next command (once)",
    "corrupt_frame": "a bit of the next answer is wrong (once)",
    "second_fragment_lost": "all but the first notification of the next answer are lost (once)",
    "junk_before_frame": "the module's own text comes before each answer",
    "link_lost_mid_frame": "the link breaks after the first notification of the next answer (once)",
    "write_request_refused": "the module accepts only write commands",
    "notify_in_progress": "the next StartNotify is refused with InProgress (once)",
    "services_never_resolve": "the link comes up, but its services are never found",
    "connected_without_link": "Connect succeeds, and there is no link",
    "connection_aborted": "Connect fails with le-connection-abort-by-local",
    "mute": "the link is up and nothing is answered",
    "connect_never_answers": "Connect hangs until it is cancelled",
    "adapter_off": "the battery's adapter is switched off",
    "bluetoothd_restart": "bluetoothd ends, and starts again half a second later (once)",
    "bluetoothd_absent": "bluetoothd is not running",
    "adapter_stuck": "Connect fails until the adapter has been switched off and on",
    "duplicate_answer": "each answer comes twice",
    "late_answer": "each answer comes 0.8 s late",
    "request_echoed": "the module sends each request back instead of an answer: it wants to be paired",
    "notify_acquired": "another program on this machine holds the notifications",
    "bluetoothd_hangs": "bluetoothd runs and answers nothing",
    "bluetoothd_hangs_early": "bluetoothd hangs as soon as it has told its objects once",
    "adapter_replugged": "the adapter is pulled out, and comes back half a second later under another name (once)",
    "connect_fails_late": "the next Connect fails two seconds after its link is up and used (once)",
    "scan_refused": "the next StartDiscovery is refused with InProgress (once)",
    "write_refused_late": "the module accepts only write commands, and says so after 0.8 s",
    "out_of_reach": "the battery is not heard, and BlueZ does not know it",
    "first_channel_refused": "the module refuses notifications on the usual service, and has another one",
    "app_password": "the module lets nothing through before it was told the app's password, 123456",
    "link_unstable": "the link breaks after each answer",
}
"""Faults by name. The first nineteen are those that a battery source must survive; each is set for one battery."""

ONCE: Final = frozenset(name for name, what in FAULTS.items() if what.endswith("(once)"))
"""Faults that are over when they have happened."""
