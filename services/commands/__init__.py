"""Verbs of the command `constellation` that know services; those that know none lie in bootstrap_lib/commands."""
