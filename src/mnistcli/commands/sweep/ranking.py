"""How far a sweep has come: Optuna's trials, by the number that each has in the sweep.

Which of the searched keys made the difference between trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pydantic import JsonValue

from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.study import TRIAL, hush
from mnistcli.tensorflow_import import hide_modules

MIN_TRIALS = 10  # complete ones; below it chance decides


def compute_importances(study: Study) -> dict[str, float]:
    """Return each key's share of what sets the best tenth of the complete trials apart.

    The shares add up to 1, the largest first; there are none below `MIN_TRIALS`. PED-ANOVA it is:
    of Optuna's evaluators the one that does without scikit-learn.
    """
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < MIN_TRIALS:
        return {}
    with hush(), hide_modules():  # scikit-learn takes seconds, for other evaluators
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    with hush():
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


State = Literal["waiting", "running", "complete", "pruned", "failed"]
FINISHED: frozenset[State] = frozenset({"complete", "pruned", "failed"})

MAX_LOSSES = 3  # of a trial's workers, one after the other without getting any further
HOST = "host"
DIRECTORY = "directory"
REASON = "reason"  # of a failure that trying again would repeat
TEST = "test"  # [loss, accuracy] on the test set; never looked at to choose
STOPPED = "stopped"  # its worker was told to end, or somebody else has the trial

_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Standing:
    """What is known of one trial.

    Attributes:
        number: its place in the sweep, from 0.
        state: where it stands; one that was lost or stopped is waiting again.
        value: of the objective at the end, for a running trial so far; null before there is one.
        values: of the searched keys.
        epochs: how many it has reported.
        reason: why it failed; empty otherwise.
        host: the machine that has or had it; empty for none.
        path: its checkpoint there.
        seconds: from its start to its end; null before.
        test: loss and accuracy on the test set; null for a trial that is not complete.
    """

    number: int
    state: State
    value: float | None
    values: dict[str, JsonValue]
    epochs: int
    reason: str
    host: str
    path: Path
    seconds: float | None
    test: tuple[float, float] | None = None


def name_checkpoint(directory: Path, number: int) -> Path:
    """Name a trial's checkpoint."""
    return directory / f"trial-{number:04d}.h5"


def is_settled(trial: FrozenTrial) -> bool:
    """Tell whether nobody needs to take the trial's number up again."""
    return trial.state != TrialState.FAIL or REASON in trial.user_attrs


def group_trials(study: Study) -> dict[int, list[FrozenTrial]]:
    """Return every attempt at each number, in Optuna's order.

    A trial without a number is none of ours: where another machine takes what was meant for this
    one, Optuna makes a new one, which is dropped at once.
    """
    groups: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if TRIAL in trial.user_attrs:
            groups.setdefault(int(trial.user_attrs[TRIAL]), []).append(trial)
    return groups


def find_reason(trial: FrozenTrial, attempts: Sequence[FrozenTrial]) -> str:
    """Say why a trial whose worker has died is not tried again; nothing where it is.

    Args:
        trial: the one that was lost.
        attempts: all at its number.
    """
    losses = 1
    for earlier in reversed([attempt for attempt in attempts if attempt.number < trial.number]):
        if STOPPED in earlier.user_attrs or earlier.last_step != trial.last_step:
            break
        losses += 1
    if losses < MAX_LOSSES:
        return ""
    return f"its worker died {losses} times after epoch {trial.last_step or 0}"


def list_standings(study: Study, sweep: Sweep, directory: Path) -> list[Standing]:
    """Return where every trial of a sweep stands, by number."""
    groups = group_trials(study)
    numbers = range(max([sweep.trials - 1, *groups], default=0) + 1)
    return [_stand(number, groups.get(number, ()), sweep, directory) for number in numbers]


def _stand(number: int, attempts: Sequence[FrozenTrial], sweep: Sweep, directory: Path) -> Standing:
    """The first attempt that settles a number tells, else nothing is known."""
    trial = next(filter(is_settled, attempts), None)
    if trial is None:
        path = name_checkpoint(directory, number)
        return Standing(number, "waiting", None, {}, 0, "", "", path, None)
    attributes, reported = trial.user_attrs, trial.intermediate_values
    value = trial.value if trial.state.is_finished() else None
    if value is None and reported:
        value = reported[max(reported)]
    home = Path(attributes.get(DIRECTORY, directory))
    return Standing(
        number=number,
        state=_STATES[trial.state],
        value=value,
        values=sweep.decode_params(trial.params),
        epochs=max(reported, default=0),
        reason=str(attributes.get(REASON, "")),
        host=str(attributes.get(HOST, "")),
        path=name_checkpoint(home, number),
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
        test=tuple(attributes[TEST]) if TEST in attributes else None,
    )


def rank(standings: Iterable[Standing], sweep: Sweep) -> list[Standing]:
    """Order finished trials: the complete from the best on, then the pruned, then the failed."""
    order = ("complete", "pruned", "failed")
    sign = -1 if sweep.direction == "maximize" else 1

    def make_key(one: Standing) -> tuple[int, float, int]:
        value = float("inf") if one.value is None else sign * one.value
        return order.index(one.state), value, one.number

    return sorted((one for one in standings if one.state in FINISHED), key=make_key)
