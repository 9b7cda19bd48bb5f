"""Bad input, damaged files and killed fits, by the thousand: what comes of each?

Set up as for `mnist_epoch.py`; no peers are needed. Then, on Linux::

    python benchmarks/faults.py inputs --write          # 10,000 arrays and tables
    python benchmarks/faults.py files --write           # 10,000 damaged or forged model files
    python benchmarks/faults.py kills -n 50 --write     # a fit killed at 50 random moments
    python benchmarks/faults.py inputs --case 1234      # one of them again, with its traceback
    python benchmarks/faults.py files --quick           # does everything run?

Inputs are fitted, with results that are all finite, or refused in words of ours
(`drawn_inputs.py`). Files are refused, or give the model that was saved, bit for bit; where whoever
changed a file has put the right checksum into it, it may also be another model that works
(`damaged_files.py`). Fits with checkpoints get SIGKILL ten times each, at random moments from their
first line on, and must end at the model of one that was never killed (`killed_fits.py`).
Whatever else happens is a failure: another error, a warning, a crash, a hang, a large allocation.
The work is done in a process of its own, which is replaced when it crashes or hangs. Each different
failure is printed once, with the number of the first case. Compiling takes half the time with
JAX_DISABLE_MOST_OPTIMIZATIONS=1.
"""

import argparse
import multiprocessing
import os
import queue
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import damaged_files
import drawn_inputs
import jax
import killed_fits
import report
from hypothesis import HealthCheck, Phase, given, seed, settings

BATCH = 100  # inputs that are drawn from one seed
PATIENCE = 600.0  # seconds without an answer, after which a process hangs; it compiles at first
FAILED, NOT_DRAWN = "failures", "not drawn"


class Answer(NamedTuple):
    """What came of a case."""

    number: int
    what: str
    outcome: str
    place: str = ""  # of a failure: where it was raised
    said: str = ""


class Part(NamedTuple):
    """What can go wrong in one way."""

    work: Callable[[Sequence[int], Connection], None]  # does cases, and sends an answer for each
    again: Callable[[int], None]  # does a case, and lets it raise
    outcomes: tuple[str, ...]  # that are not failures
    title: str


# Inputs.


def each_input(batch: int, function: Callable[[int, Any], None]) -> None:
    """Draw a batch of inputs: arrays if its number is even, tables if it is odd."""
    number = BATCH * batch

    @seed(batch)
    @settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn_inputs.TABLES if batch % 2 else drawn_inputs.ARRAYS)
    def draw(X: Any) -> None:
        nonlocal number
        function(number, X)
        number += 1

    draw()


def do_inputs(numbers: Sequence[int], answers: Connection) -> None:
    """Fit inputs."""
    for batch in sorted({number // BATCH for number in numbers}):
        left = {number for number in numbers if number // BATCH == batch}
        what = "tables" if batch % 2 else "arrays"

        def do(number: int, X: Any, left: set[int] = left, what: str = what) -> None:
            if number not in left:
                return
            left.discard(number)
            try:
                answers.send(Answer(number, what, drawn_inputs.outcome(X)))
            except Exception as error:
                answers.send(failure(number, what, error))

        each_input(batch, do)
        for number in sorted(left):
            answers.send(Answer(number, what, NOT_DRAWN))
        if Path("/proc/self/maps").read_bytes().count(b"\n") > 20_000:  # Linux allows 65,530
            jax.clear_caches()


def do_input_again(number: int) -> None:
    """Fit one of them, and say what it is."""

    def do(drawn: int, X: Any) -> None:
        if drawn == number:
            found.append(X)

    found: list[Any] = []
    each_input(number // BATCH, do)
    print(type(found[0]), getattr(found[0], "dtype", ""), getattr(found[0], "dtypes", ""))
    print(repr(found[0]))
    print(drawn_inputs.outcome(found[0]))


# Files.


def do_files(numbers: Sequence[int], answers: Connection) -> None:
    """Load files."""
    with tempfile.TemporaryDirectory() as folder:
        models = damaged_files.save_models(Path(folder))
        for number in numbers:
            saved, what, content = damaged_files.damage(models, number)
            try:
                found = damaged_files.outcome(saved, content, Path(folder) / "model.aevb")
                answers.send(Answer(number, what, found))
            except BaseException as error:  # an attempt to run code is a SystemExit
                answers.send(failure(number, what, error))


def do_file_again(number: int) -> None:
    """Load one of them, and say what was done to it."""
    with tempfile.TemporaryDirectory() as folder:
        models = damaged_files.save_models(Path(folder))
        saved, what, content = damaged_files.damage(models, number)
        print(what, len(content), "bytes")
        print(damaged_files.outcome(saved, content, Path(folder) / "model.aevb"))


# Kills.


def do_kills(numbers: Sequence[int], answers: Connection) -> None:
    """Kill fits, several times each, and compare what they end at."""
    left = list(numbers)
    try:
        for found in killed_fits.outcomes(list(numbers)):
            for number, outcome in found:
                left.remove(number)
                answers.send(Answer(number, "kills", outcome))
    except Exception as error:  # of these kills; the others are left
        answers.send(failure(left[0], "kills", error))


def do_kill_again(number: int) -> None:
    """Kill a fit as often as there are kills of one fit, from this number on."""
    for found in killed_fits.outcomes(list(range(number, number + killed_fits.KILLS_PER_FIT))):
        print(found)


PARTS = {
    "inputs": Part(
        do_inputs,
        do_input_again,
        (drawn_inputs.FITTED, drawn_inputs.REFUSED),
        "Inputs drawn",
    ),
    "files": Part(
        do_files,
        do_file_again,
        (damaged_files.REFUSED, damaged_files.IDENTICAL, damaged_files.OTHER),
        "Model files, by what was done to them",
    ),
    "kills": Part(
        do_kills,
        do_kill_again,
        (killed_fits.IN_TRAINING, killed_fits.BEFORE, killed_fits.AFTER),
        "Kills of a fit with checkpoints, which ends at the same model, bit for bit",
    ),
}


# What all parts have.


def failure(number: int, what: str, error: BaseException) -> Answer:
    """Describe an error that should not have been raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "aevb" in Path(frame.filename).parts] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return Answer(number, what, FAILED, place, f"{type(error).__name__}: {error}"[:500])


def answered(work: Callable, numbers: Sequence[int]) -> Iterator[Answer]:
    """Yield what comes of some cases, in the order of their numbers, whatever happens."""
    left = list(numbers)
    context = multiprocessing.get_context("spawn")
    while left:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(left, sender), daemon=True)
        process.start()
        sender.close()
        try:
            while left:
                if not receiver.poll(PATIENCE):
                    yield Answer(left.pop(0), "any", FAILED, "hang", "no answer")
                    break
                try:
                    answer = receiver.recv()
                except EOFError:
                    process.join()
                    said = f"exit code {process.exitcode}"
                    yield Answer(left.pop(0), "any", FAILED, "crash", said)
                    break
                left.remove(answer.number)
                yield answer
        finally:
            process.kill()
            process.join()


def answered_side_by_side(
    work: Callable, numbers: Sequence[int], n_processes: int
) -> Iterator[Answer]:
    """Yield what comes of some cases, as it comes, from several processes with a share each."""
    answers: queue.Queue[Answer | None] = queue.Queue()
    size = -(-len(numbers) // n_processes)

    def do(share: Sequence[int]) -> None:
        try:
            for answer in answered(work, share):
                answers.put(answer)
        finally:
            answers.put(None)

    shares = [numbers[k : k + size] for k in range(0, len(numbers), size)]
    for share in shares:
        threading.Thread(target=do, args=(share,), daemon=True).start()
    for _ in shares:
        yield from iter(answers.get, None)


def main() -> None:
    """Draw, try, count, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("-n", type=int, default=10_000, help="number of cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--processes", type=int, default=1, help="that share the work")
    parser.add_argument("--case", type=int, help="do this case alone, with its traceback")
    parser.add_argument("--quick", action="store_true", help="100 cases; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    arguments = parser.parse_args()
    part = PARTS[arguments.part]
    if arguments.case is not None:
        part.again(arguments.case)
        return

    n = 100 if arguments.quick else arguments.n
    counts: Counter[tuple[str, str]] = Counter()
    seen: Counter[tuple[str, str]] = Counter()
    failures: list[report.Row] = []
    numbers = range(arguments.first, arguments.first + n)
    found = answered_side_by_side(part.work, numbers, arguments.processes)
    for done, answer in enumerate(found):
        counts[answer.what, answer.outcome] += answer.outcome != NOT_DRAWN
        if answer.outcome == FAILED:
            distinct = answer.place, answer.said.partition(":")[0]
            seen[distinct] += 1
            if seen[distinct] == 1:
                failures.append(answer._asdict())
                print(f"case {answer.number} ({answer.what}), {answer.place}: {answer.said}")
                print(f"    python benchmarks/faults.py {arguments.part} --case {answer.number}")
        if (done + 1) % 100 == 0:
            totals = Counter()
            for (_, outcome), count in counts.items():
                totals[outcome] += count
            print(done + 1, dict(totals), flush=True)
    optimizes = "no" if os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1" else "yes"
    kinds = sorted({what for what, _ in counts})
    rows = [
        {"what": what, "cases": sum(counts[what, each] for each in (*part.outcomes, FAILED))}
        | {outcome: counts[what, outcome] for outcome in (*part.outcomes, FAILED)}
        for what in kinds
    ]
    rows.append({"what": "all"} | {key: sum(r[key] for r in rows) for key in list(rows[0])[1:]})
    report.publish(
        f"faults_{arguments.part}",
        {part.title: rows, "Targets": [report.target(FAILED, rows[-1][FAILED], "≤", 0)]},
        settings={"cases": n, "first": arguments.first, "XLA optimizes": optimizes},
        details={"failures": failures, "times": {" ".join(key): m for key, m in seen.items()}},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
