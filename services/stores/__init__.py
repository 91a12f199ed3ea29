"""What the stores share: the archive's tables, its minutes, its housekeeping, and how the other stores fill from it."""
