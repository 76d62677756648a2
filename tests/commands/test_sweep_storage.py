"""A sweep's storage that is damaged, emptied or gone: said, and nothing finished is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Run
from helpers.commands import read_arrays
from helpers.sweeps import HEAD, RATE, read_journal
from mnistcli.commands.sweep.supervisor import run_sweep
from mnistcli.errors import ResourceError
from mnistcli.output.results import TrialResult

pytest_plugins = ("helpers.postgresql",)

GRID = f"{HEAD}search: {{{RATE}: [0.1, 0.2]}}\nsampler: grid\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def journal(run: Run, finished: Path) -> Path:
    """The journal of a sweep of two trials that has ended."""
    Path("s.yaml").write_text(GRID)
    if not (finished / "s-sweep").exists():
        assert run("sweep", "s.yaml", "-q").code == 0
        shutil.move("s-sweep", finished)
    shutil.copytree(finished / "s-sweep", "s-sweep")
    return Path("s-sweep/sweep.journal")


def list_times() -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path("s-sweep").glob("*.h5")}


DAMAGE = {
    "blank": b"\n",
    "several blank": b"\n\n\n",
    "garbage": b"garbage\n",
    "number": b"5\n",
    "null": b"null\n",
    "list": b"[]\n",
    "deep": b"[" * 100_000 + b"\n",
    "NUL line": bytes(64) + b"\n",
    "not UTF-8": b"\xff\xfe\n",
    "other keys": b"{}\n",
    "other types": b'{"op_code":"x"}\n',
    "value of another type": b'{"op_code":4,"worker_id":"x","study_id":0,"datetime_start":5}\n',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_end_is_cut_off_with_a_warning(run: Run, journal: Path, damage: bytes) -> None:
    sound, times = journal.read_bytes(), list_times()
    journal.write_bytes(sound + damage)
    ended = run("sweep", "s.yaml", "--json")
    assert ended.code == 0
    assert ended.json["complete"] == 2
    line = sound.count(b"\n") + 1
    assert ended.err.startswith(f"mnistcli: warning: {journal}: damaged from line {line} on, and")
    assert journal.read_bytes().startswith(sound)
    assert read_journal(journal.parent)[-1]["op_code"] == 0  # opening it leaves a record
    assert list_times() == times


def damage_the_middle(journal: Path, damage: bytes) -> int:
    """Put a line between others, and return its number."""
    lines = journal.read_bytes().splitlines(keepends=True)
    at = len(lines) // 2
    journal.write_bytes(b"".join([*lines[:at], damage, *lines[at:]]))
    return at + 1


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_in_the_middle_is_told_with_its_line(run: Run, journal: Path, damage: bytes) -> None:
    line = damage_the_middle(journal, damage)
    before = journal.read_bytes()
    ended = run("sweep", "s.yaml", "-q")
    assert (ended.code, ended.out) == (7, "")
    assert f"{journal}: line {line} is damaged, in the middle of others. Sed -i" in ended.err
    assert journal.read_bytes() == before


def test_the_command_that_mends_a_journal_keeps_the_trials(run: Run, journal: Path) -> None:
    trials = sorted(journal.parent.glob("*.h5"))
    arrays = [read_arrays(path) for path in trials]
    damage_the_middle(journal, b"garbage\n")
    before = journal.read_bytes()
    hint = run("sweep", "s.yaml", "--json").json["error"]["hint"]
    (command,) = re.findall(r"sed -i\.bak '[^']*' \S+", hint)
    assert os.system(command) == 0
    ended = run("sweep", "s.yaml", "--json")
    assert (ended.code, ended.json["complete"]) == (0, 2)
    assert Path(f"{journal}.bak").read_bytes() == before
    assert [read_arrays(path) for path in trials] == arrays


def test_an_emptied_journal_does_not_train_over_the_trials(run: Run, journal: Path) -> None:
    times = list_times()
    journal.write_bytes(b"")
    for _ in range(2):
        ended = run("sweep", "s.yaml", "-q")
        assert (ended.code, ended.out) == (2, "")
        assert f"{journal}: no trial is recorded, but s-sweep holds some" in ended.err
    assert list_times() == times


def test_a_storage_without_the_trials_of_a_folder_does_not_train_over_them(
    run: Run, journal: Path
) -> None:
    journal.unlink()
    ended = run("sweep", "s.yaml", "--storage", "sqlite:///s.db", "-q")
    assert ended.code == 2
    assert "sqlite:///s.db: no trial is recorded, but s-sweep holds some" in ended.err


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE trial_user_attributes SET value_json = '{bad'", "the study s: its storage holds"),
        ("UPDATE trial_values SET value = 'high'", "the study s: its storage holds"),
        ("UPDATE trial_params SET param_value = 99", "the study s: its storage holds"),
        ("UPDATE study_user_attributes SET value_json = '['", "the study s: its storage holds"),
        ("UPDATE alembic_version SET version_num = 'v9'",
         "sqlite:///s.db: its tables are those of another version of Optuna"),
        ("", "sqlite:///s.db: the database does not answer: file is not a database"),
    ],
)  # fmt: skip
def test_a_damaged_database_is_an_error_and_costs_no_file(
    run: Run, finished: Path, statement: str, message: str
) -> None:
    Path("s.yaml").write_text(GRID)
    words = ("sweep", "s.yaml", "--storage", "sqlite:///s.db", "-q")
    if not (finished / "s.db").exists():
        assert run(*words).code == 0
        shutil.copy("s.db", finished)
    Path("s-sweep").mkdir(exist_ok=True)
    shutil.copy(finished / "s.db", "s.db")
    if statement:
        with contextlib.closing(sqlite3.connect("s.db")) as connection:
            connection.execute(statement)
            connection.commit()
    else:
        Path("s.db").write_bytes(b"garbage")
    times = list_times()
    ended = run(*words)
    assert (ended.code, ended.out) == (7, "")
    assert f"mnistcli: error: {message}" in ended.err
    assert list_times() == times


def test_a_database_that_is_gone_in_mid_sweep_costs_no_trial_that_has_ended(
    run: Run, postgresql: str
) -> None:
    import psycopg

    server, _, name = postgresql.rpartition("/")
    Path("s.yaml").write_text(GRID)
    gone: list[TrialResult] = []

    def execute(statement: str) -> None:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(statement)

    def stop(trial: TrialResult) -> None:
        if not gone:
            execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE datname = '{name}'")  # fmt: skip
        gone.append(trial)

    with pytest.raises(ResourceError) as caught:
        run_sweep("s.yaml", storage=postgresql, on_trial_end=stop)
    assert caught.value.where == postgresql
    assert caught.value.what.startswith("the database does not answer: ")
    assert caught.value.hint.endswith("goes on with the sweep, and no trial that has ended is lost")
    (checkpoint,) = {str(trial.checkpoint) for trial in gone}
    before = Path(checkpoint).stat().st_mtime_ns
    execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    ended = run("sweep", "s.yaml", "--storage", postgresql, "--json")
    assert (ended.code, ended.json["complete"]) == (0, 2)
    assert Path(checkpoint).stat().st_mtime_ns == before


def test_a_database_file_that_is_deleted_in_mid_sweep_is_named(run: Run) -> None:
    Path("s.yaml").write_text(GRID)
    with pytest.raises(ResourceError) as caught:
        run_sweep("s.yaml", storage="sqlite:///s.db", on_trial_end=lambda _: Path("s.db").unlink())
    assert str(caught.value).startswith("sqlite:///s.db: the database does not answer: ")
    assert Path("s-sweep/trial-0000.h5").exists()
    ended = run("sweep", "s.yaml", "--storage", "sqlite:///s.db")
    assert ended.code == 2
    assert "no trial is recorded, but s-sweep holds some" in ended.err


def alter(journal: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the records of a journal, which stay JSON objects."""
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        change(record)
    journal.write_text("".join(f"{json.dumps(record)}\n" for record in records))


def set_attribute(name: str, value: object) -> Callable[[dict[str, object]], None]:
    def change(record: dict[str, object]) -> None:
        attributes = record.get("user_attrs" if name == "trial" else "user_attr")
        if isinstance(attributes, dict) and name in attributes:
            attributes[name] = value

    return change


def set_value(record: dict[str, object]) -> None:
    if record.get("values"):
        record["values"] = ["high"]


@pytest.mark.parametrize(
    "change",
    [set_attribute("trial", "first"), set_attribute("trial", 10**12), set_attribute("trial", None),
     set_attribute("directory", 5), set_attribute("test", "good"), set_value],
)  # fmt: skip
def test_values_of_other_types_are_an_error_and_change_nothing(
    run: Run, journal: Path, change: Callable[[dict[str, object]], None]
) -> None:
    alter(journal, change)
    before, times = journal.read_bytes(), list_times()
    ended = run("sweep", "s.yaml", "-q")
    assert (ended.code, ended.out) == (7, "")
    assert "the study s: its storage holds what mnistcli does not write: " in ended.err
    assert journal.read_bytes().startswith(before)
    assert list_times() == times


@pytest.mark.parametrize("name", ["sweep.journal", ".sweep.journal-lock", ".sweep-claim"])
@pytest.mark.parametrize("kind", ["link", "hard link", "FIFO"])
def test_what_others_put_into_a_sweeps_folder_is_not_written_to(
    run: Run, kind: str, name: str
) -> None:
    Path("s.yaml").write_text(GRID)
    Path("victim").write_bytes(b"years of work")
    planted = Path("s-sweep", name)
    planted.parent.mkdir()
    if kind == "link":
        planted.symlink_to("../victim")
    elif kind == "hard link":
        os.link("victim", planted)
    else:
        os.mkfifo(planted)
    ended = run("sweep", "s.yaml", "-q")
    assert (ended.code, ended.out) == (7, "")
    assert f"{name} is " in ended.err
    assert Path("victim").read_bytes() == b"years of work"
    assert os.path.lexists(planted)
