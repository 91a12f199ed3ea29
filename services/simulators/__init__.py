"""Simulated hardware: the demo and the tests run the real services on it, through the real libraries."""
