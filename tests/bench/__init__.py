"""What things cost, as ratios and figures of one run; not timed tests."""
