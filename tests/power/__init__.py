"""Cuts the power of everything at one instant, many times, and measures what is missing."""
