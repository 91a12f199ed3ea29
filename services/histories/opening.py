"""Finds out by its content what a foreign history is, and has it read."""

import csv
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from bootstrap_lib import StartError, reason
from services.histories import homeassistant, round_robin, tables, text_files
from services.histories.scratch import Scratch

SQLITE: Final = b"SQLite format 3\0"
ZIP: Final = b"PK"
ROUND_ROBIN: Final = (b"RRD\0", b"<?xml")


def read(path: Path, into: Scratch, zone: ZoneInfo) -> str:
    """Read a file, or a folder of round-robin files; returns what it is. StartError for what is none of them, or damaged."""
    try:
        if path.is_dir():
            round_robin.read(path, into)
            return "round-robin files"
        with path.open("rb") as file:
            begin = file.read(len(SQLITE))
        if begin == SQLITE:
            return _database(path, into, zone)
        if begin.startswith(ROUND_ROBIN):
            round_robin.read(path, into)
            return "round-robin file"
        if begin.startswith(ZIP):
            text_files.read_zip(path, into, zone)
            return "zip of CSV"
        text_files.read(path, into, zone)
    except sqlite3.Error as error:
        raise StartError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise StartError(f"{path} cannot be read: {reason(error)}") from None
    except csv.Error as error:
        raise StartError(f"{path} cannot be read as CSV: {error}") from None
    return "lines of text"


def _database(path: Path, into: Scratch, zone: ZoneInfo) -> str:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        recorder = homeassistant.is_one(database)
    if recorder:
        homeassistant.read(path, into)
        return "Home Assistant's recorder"
    tables.read(path, into, zone)
    return "tables of measurements"
