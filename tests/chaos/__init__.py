"""Breaks everything at random, and counts what came through."""
