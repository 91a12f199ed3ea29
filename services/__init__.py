"""The services of the house, one file each; the user's own lie in /etc/constellation/services."""

import os

__path__.append(os.environ.get("CONSTELLATION_SERVICES", "/etc/constellation/services"))
