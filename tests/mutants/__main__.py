"""Breaks the promises one by one in copies of the tree, and says which nobody notices: `python -m tests.mutants`."""

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.mutants.table import PRODUCT, PROJECT, Mutant, MutantError, mutants, survivors

COPIED: Final = (*PRODUCT, "tests", "docs", "systemd", "scripts", "pyproject.toml", "topics.yaml", "README.md")
LEAST: Final = 60.0
"""Seconds that tests of a mutant have at least: one that hangs is noticed too."""

WITHOUT: Final = ("-p", "no:xdist", "-p", "no:rerunfailures")
"""What tests of a mutant do not need: neighbours, and a second try."""

FAILED: Final = 1
"""pytest's exit code where tests failed."""

Verdict = Literal["caught", "hangs", "SURVIVES", "BROKEN"]


class Result(NamedTuple):
    """What became of a mutant, and the test that noticed it or what went wrong."""

    verdict: Verdict
    by: str
    seconds: float


class Tree:
    """A copy of the project in which one mutant lives at a time."""

    def __init__(self, folder: Path) -> None:
        """Copy what tests need."""
        self.root, self._temporary = folder / "constellation", folder / "pytest"
        self.root.mkdir(parents=True)
        for name in COPIED:
            source, target = PROJECT / name, self.root / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, target)
        shared = PROJECT.parent / "shared"
        if shared.exists():
            (folder / "shared").symlink_to(shared.resolve())
        self._clean: dict[tuple[tuple[str, ...], str], float | str] = {}
        self._stamp = time.time()

    def judge(self, mutant: Mutant) -> Result:
        """Run the mutant's tests without it and with it."""
        key = mutant.tests, mutant.chosen
        if key not in self._clean:
            code, by, seconds = self._run(mutant, 600.0)
            self._clean[key] = f"without it: {by or code}" if code else seconds
        clean = self._clean[key]
        if isinstance(clean, str):
            return Result("BROKEN", clean, 0.0)
        path, broken = mutant.find(self.root)
        content = path.read_text()
        self._write(path, broken)
        try:
            code, by, seconds = self._run(mutant, max(LEAST, 5 * clean))
        finally:
            self._write(path, content)
        if code is None:
            return Result("hangs", "its time was over", seconds)
        verdict: Verdict = "SURVIVES" if code == 0 else "caught" if code == FAILED else "BROKEN"
        return Result(verdict, by or ("" if code in (0, FAILED) else f"pytest ended with {code}"), seconds)

    def _write(self, path: Path, content: str) -> None:
        path.write_text(content)
        self._stamp += 10  # compiled files know a source by its second and its size
        os.utime(path, (self._stamp, self._stamp))

    def _run(self, mutant: Mutant, limit: float) -> tuple[int | None, str, float]:
        """Run tests; the exit code (None when its time was over), the first test that failed, and the seconds."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            *WITHOUT,
            f"--basetemp={self._temporary}",  # what they share by default is closed to other users by whoever begins
            *mutant.tests,
        ]
        chosen = ["--whole", "-k", mutant.chosen] if mutant.chosen else []
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        begin = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [*command, *chosen],
                cwd=self.root,
                env=environment | {"PYTHONPATH": str(self.root)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            code: int | None
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
            output.seek(0)
            lines = output.read().splitlines()
        failed = next((line.split()[1] for line in lines if line.startswith(("FAILED tests", "ERROR tests"))), "")
        return code, failed, time.monotonic() - begin


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the tests and all that they started, which is one group of processes of our own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    process.wait()


def _chosen(only: list[str], files: list[str]) -> list[Mutant]:
    known = mutants()
    if unknown := [name for name in only if name not in known]:
        raise MutantError(f"no mutant is named {', '.join(unknown)}: see --list")
    found = [known[name] for name in only] if only else list(known.values())
    if files:
        found = [mutant for mutant in found if str(mutant.find(PROJECT)[0].relative_to(PROJECT)) in files]
    return found


def _work(waiting: "queue.SimpleQueue[Mutant]", folder: Path, done: "queue.SimpleQueue[tuple[Mutant, Result]]") -> None:
    tree = Tree(folder)
    while True:
        try:
            mutant = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            result = tree.judge(mutant)
        except MutantError as error:
            result = Result("BROKEN", str(error), 0.0)
        done.put((mutant, result))


def run(chosen: list[Mutant], jobs: int) -> dict[str, Result]:
    """Judge mutants, some at a time, and say how it goes."""
    results: dict[str, Result] = {}
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Mutant, Result]] = queue.SimpleQueue()
    for mutant in sorted(chosen, key=lambda mutant: mutant.tests):
        waiting.put(mutant)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        Path(folder).chmod(0o755)  # some tests run programs as nobody
        for job in range(min(jobs, len(chosen))):
            threading.Thread(target=_work, args=(waiting, Path(folder) / str(job), done), daemon=True).start()
        while len(results) < len(chosen):
            mutant, result = done.get()
            results[mutant.name] = result
            place = f"[{len(results):3}/{len(chosen)}]"
            print(f"{place} {result.verdict:8} {mutant.name}  {result.by}  {result.seconds:.1f} s", flush=True)
    return results


def main() -> int:
    """Judge; 0 where exactly the committed survivors survive."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this mutant; may be repeated")
    parser.add_argument(
        "--file", action="append", default=[], metavar="PATH", help="mutants of this file; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    parser.add_argument("--list", action="store_true", help="show them, and run nothing")
    given = parser.parse_args()
    try:
        chosen = _chosen(given.only, given.file)
    except MutantError as error:
        print(error, file=sys.stderr)
        return 2
    if given.list:
        for mutant in chosen:
            print(f"{mutant.name}\n    {mutant.promise} ({mutant.page})\n    {', '.join(mutant.tests)}")
        return 0
    results = run(chosen, given.jobs)
    survived = {name for name, result in results.items() if result.verdict == "SURVIVES"}
    broken = [name for name, result in results.items() if result.verdict == "BROKEN"]
    known = survivors().reasons.keys() & results.keys()
    for name in sorted(survived):
        print(f"survives: {name}: {mutants()[name].promise}")
    for name in sorted(known - survived):
        print(f"survives no more, take it out of survivors.toml: {name}")
    for name in broken:
        print(f"could not be judged: {name}: {results[name].by}")
    caught = len(results) - len(survived) - len(broken)
    print(f"{caught} of {len(results)} mutants are noticed ({caught / max(1, len(results)):.0%})")
    return int(survived != known or bool(broken))


if __name__ == "__main__":
    sys.exit(main())
