"""The version of everything, in one place: the distribution takes it from here."""

VERSION = "0.1.0"
