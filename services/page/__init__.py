"""What `web` shows: the living house, its past, and the doors by which browsers and programs come to both."""
