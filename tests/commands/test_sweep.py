"""`mnistcli sweep`: trials are checkpoints, and killed sweeps resume."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from conftest import Run
from helpers.commands import drop_data_warning, read_arrays
from helpers.json_schemas import check
from helpers.sweeps import HEAD, LONG, RATE, count_reports, read_journal, start, wait_until
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.commands.sweep.supervisor import plan_sweep, run_sweep
from mnistcli.output.results import TrialResult
from mnistcli.tensorflow_import import clear_session


def write(text: str) -> Path:
    Path("s.yaml").write_text(HEAD + text)
    return Path("s.yaml")


def test_trials_are_ranked_pruned_and_kept_as_checkpoints(run: Run) -> None:
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 1e-5]
    write(f"search: {{{RATE}: {rates}}}\nsampler: grid\n")
    ended = run("sweep", "s.yaml", "--jsonl")
    assert (ended.code, drop_data_warning(ended.err)) == (0, "")
    *lines, answer = map(json.loads, ended.out.splitlines())
    check("sweep", answer)
    for line in lines:
        check("sweep.jsonl", line)
    assert [line["trial"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [line["parameters"][RATE] for line in lines] == rates
    assert [line["state"] for line in lines] == [*["complete"] * 5, "pruned"]
    assert (answer["complete"], answer["pruned"], answer["failed"]) == (5, 1, 0)
    ranking = answer["ranking"]
    values = [trial["value"] for trial in ranking[:5]]
    assert values == sorted(values, reverse=True)
    assert answer["best"] == ranking[0]
    assert ranking[5]["epochs"] == 1
    # the objective is that of the weights in the file
    best = Path(answer["best"]["checkpoint"])
    assert best.parent == Path("s-sweep")
    for split in ("validation", "test"):
        (scored,) = run("evaluate", best, "--split", split, "--json").json["results"]
        told = answer["best"]["value"] if split == "validation" else answer["test"]["accuracy"]
        assert scored["accuracy"] == pytest.approx(told)
    listed = run("ls", "s-sweep", "--json").json["checkpoints"]
    assert [file["trial"] for file in listed] == [
        {"study": "s", "number": number, "state": line["state"]}
        for number, line in enumerate(lines)
    ]
    assert [file["epochs"] for file in listed] == [2, 2, 2, 2, 2, 1]
    assert "pruned" in run("ls", "s-sweep").out

    before = {path: path.stat().st_mtime_ns for path in Path("s-sweep").glob("trial-*")}
    again = run("sweep", "s.yaml", "--json")
    assert again.json == answer
    assert before == {path: path.stat().st_mtime_ns for path in Path("s-sweep").glob("trial-*")}
    assert run("sweep", "s.yaml", "-q").out == f"{best}\n"
    shown = run("sweep", "s.yaml")
    assert shown.err.splitlines() == [
        "goes on with s: 6 of 6 trials have ended before",
        f"best  {best}",
        f"next  mnistcli evaluate {best}",
    ]
    assert re.search(r"\n     5 +0\.\d{4}        1   pruned +1e-05\n", shown.out)
    assert re.search(
        r"6 trials: 5 complete, 1 pruned, 0 failed\n"
        r"best trial \d: val_accuracy 0\.\d{4}, test accuracy 0\.\d{4}, loss \d\.\d{4}\n$",
        shown.out,
    )
    # a pruned trial is a run that has only begun
    pruned = "s-sweep/trial-0005.h5"
    assert run("train", "--resume", pruned, "-q").out == f"{pruned}\n"
    (file,) = run("ls", pruned, "--json").json["checkpoints"]
    assert (file["epochs"], file["trial"]) == (2, None)


def test_a_sweep_is_run_from_python(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    del run  # its working directory and settings
    write(f"search: {{{RATE}: [0.1, 0.2]}}\nsampler: grid\n")
    assert plan_sweep("s.yaml").points == 2
    ended: list[TrialResult] = []
    result = run_sweep("s.yaml", on_trial_end=ended.append)
    assert [trial.trial for trial in ended] == [0, 1]
    assert sorted(result.ranking, key=lambda trial: trial.trial) == ended
    assert result.best in ended
    assert run_sweep("s.yaml", on_trial_end=ended.append) == result
    assert len(ended) == 2
    assert capsys.readouterr().out == ""


MLP = """
config:
  model: {type: mlp, hidden: [16], dropout: 0.2}
  training: {batch_size: 100, epochs: 2, optimizer: nadam}
set: {dataset.validation: 0.2}
search: {training.optimizer.learning_rate: [1.0e-2, 3.0e-3], training.epochs: [3, 2]}
sampler: grid
pruner: none
"""


def test_a_trial_on_another_ones_programs_has_the_bits_of_a_run_of_its_own(run: Run) -> None:
    Path("s.yaml").write_text(MLP)
    assert run("sweep", "s.yaml", "-q").code == 0
    config, _ = MLP.split("set:")
    Path("c.yaml").write_text(config.replace("config:", "").replace("\n  ", "\n"))
    words = ("--validation", 0.2, "--learning-rate", 0.003, "--epochs", 3, "-o", "run.h5", "-q")
    clear_session()  # Keras counts the optimizers of a process, and names them so
    assert run("train", "c.yaml", *words).code == 0
    trial = Path("s-sweep/trial-0002.h5")
    assert read_arrays(trial) == read_arrays(Path("run.h5"))
    configs = [read_checkpoint(path).record.config for path in (trial, Path("run.h5"))]  # type: ignore[union-attr]
    assert configs[0] == configs[1]


WILD = """
config:
  model: {type: mlp, hidden: [8], activation: exponential}
  training: {batch_size: 100, epochs: 1, loss: mean_squared_error}
set: {dataset.validation: 0.2}
search:
  training.optimizer.nesterov: [true, false]
  training.optimizer.learning_rate: [1e6, 1e-3]
sampler: grid
"""


def test_failed_trials_do_not_end_a_sweep(run: Run) -> None:
    Path("s.yaml").write_text(WILD)
    dry = run("sweep", "s.yaml", "--dry-run", "--json").json
    check("sweep", dry)
    assert (dry["points"], dry["refused"]) == (4, 2)
    assert not Path("s-sweep").exists()
    ended = run("sweep", "s.yaml", "--progress", "lines", "--json")
    answer = ended.json
    assert (ended.code, answer["complete"], answer["failed"]) == (0, 1, 3)
    refused = "training.optimizer.nesterov: nesterov needs momentum above 0"
    assert [trial["reason"] for trial in answer["ranking"]] == [
        None, refused, refused, "epoch 1: the loss is no longer finite: training has diverged",
    ]  # fmt: skip
    assert f"1/4  trial 0  failed: {refused}  nesterov true  learning_rate 1e+06" in ended.err
    states = [f["trial"]["state"] for f in run("ls", "s-sweep", "--json").json["checkpoints"]]
    assert states == ["failed", "complete"]

    Path("t.yaml").write_text(WILD.replace("[true, false]", "[true]"))
    none = run("sweep", "t.yaml")
    assert (none.code, none.err.splitlines()[-1]) == (
        6,
        f"mnistcli: error: t.yaml: 2 trials failed, and none is complete; the first at: {refused}."
        " Search other values, lower learning rates for example",
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--storage", "postgresql://me:secret@127.0.0.1:1/x"), 7,
         "postgresql://me:***@127.0.0.1:1/x: the database does not answer: "),
        (("--storage", "nothing"), 2, "--storage: no database's URL. Write postgresql://"),
        (("-o", "gone/away"), 7, "gone: this folder does not exist. Make it: mkdir -p gone"),
        (("-o", "s.yaml"), 7, "s.yaml: this is a file, not a folder. Choose another place with -o"),
        (("-o", "others"), 2, "--output: others holds trials of another sweep. Choose another"),
        (("--jobs", 0), 2, "--jobs: expected a whole number from 1, received '0'"),
    ],
)  # fmt: skip
def test_what_cannot_begin(run: Run, words: tuple[object, ...], code: int, message: str) -> None:
    write(f"search: {{{RATE}: [0.1, 0.2]}}\nsampler: grid\n")
    Path("others").mkdir()
    Path("others/trial-0000.h5").touch()
    ended = run("sweep", "s.yaml", *words)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(f"mnistcli: error: {message}")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://me:{}@127.0.0.1:1/sweeps", 7),
        ("postgresql://me@127.0.0.1:1/sweeps?password={}&sslpassword={}", 7),
        ("postgresql://me:1234{}/5@127.0.0.1:1/sweeps", 7),
        ("postgresql://me:x%40{}@127.0.0.1:1/sweeps", 7),
        ("postgresql://me:x@{}@127.0.0.1:1/sweeps", 2),
        ("postgresql://me:x@y@{}@127.0.0.1:1/sweeps", 2),
        ("postgresql://me:x {} y@127.0.0.1:1/sweeps", 7),
        ("postgresql://me:{}@127.0.0.1:port/sweeps", 2),
        ("nosuch://me:{}@127.0.0.1:1/sweeps", 2),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_storages_password_is_shown_nowhere(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, code: int
) -> None:
    monkeypatch.setenv("MNISTCLI_DEBUG", "1")
    Path("s.yaml").write_text(f"{HEAD}search: {{{RATE}: [0.1]}}\nsampler: grid\n")
    words = ("sweep", "s.yaml", "--storage", url.replace("{}", "hunter2"), "--json")
    ended = run(*words, "--log-file", "run.log", "--log-level", "debug")
    log = Path("run.log").read_text()
    assert ended.code == code
    assert "hunter2" not in ended.out + ended.err + log
    assert "sweep s.yaml --storage" in log
    assert ended.json["error"]["code"] == code
    assert "hunter2" not in run("train", *words[1:]).err  # where it is no flag


def test_without_optuna_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"search: {{{RATE}: [0.1, 0.2]}}\nsampler: grid\n")
    monkeypatch.setitem(sys.modules, "optuna", None)
    ended = run("sweep", "s.yaml")
    assert (ended.code, ended.err) == (
        7,
        "mnistcli: error: optuna: not installed."
        " Install it: python -m pip install 'mnistcli[sweep]'\n",
    )
    assert run("sweep", "s.yaml", "--dry-run").code == 0


def list_children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for workers in /proc")
def test_a_killed_workers_trial_goes_on_in_another(environment: dict[str, str]) -> None:
    """Two workers, two trials, and one of the workers is killed in the middle of its trial."""
    Path("s.yaml").write_text(f"{LONG}search: {{{RATE}: [0.1, 0.2]}}\nsampler: grid\n")
    directory = Path("s-sweep")
    with start(environment, "s.yaml", "--jobs", 2, "--json", "--progress", "lines") as command:
        wait_until(lambda: min(count_reports(directory).get(n, 0) for n in (0, 1)) > 10)
        os.kill(list_children(command.pid)[0], signal.SIGKILL)
        out, err = command.communicate(timeout=120)
    assert (command.returncode, "Traceback" in err) == (0, False)
    answer = json.loads(out)
    assert (answer["complete"], answer["failed"]) == (2, 0)
    assert [trial["epochs"] for trial in answer["ranking"]] == [200, 200]
    created = [
        line["user_attrs"]["trial"] for line in read_journal(directory) if line["op_code"] == 4
    ]
    assert sorted(created) in ([0, 0, 1], [0, 1, 1])  # the lost one was taken up once
    assert not any(name.suffix != ".h5" for name in directory.glob("*trial*"))


def test_an_interrupted_sweep_says_how_to_go_on(environment: dict[str, str]) -> None:
    Path("s.yaml").write_text(f"{LONG}search: {{{RATE}: [0.1, 0.2]}}\nsampler: grid\n")
    with start(environment, "s.yaml", "-o", "d", "--progress", "none") as command:
        wait_until(lambda: count_reports(Path("d")).get(0, 0) > 5)
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=30)
    assert command.returncode == -signal.SIGINT
    assert drop_data_warning(err) == (
        "interrupted after 0 of 2 trials; none of them is lost\nnext  mnistcli sweep s.yaml -o d\n"
    )
    (stopped,) = [
        line for line in read_journal(Path("d")) if "stopped" in line.get("user_attr", ())
    ]
    assert stopped["trial_id"] == 0
