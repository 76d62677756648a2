"""The study of a sweep: made once, found again, and never another sweep's."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import Study

from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.sampling import TrialSampler, make_pruner
from mnistcli.commands.sweep.study import hush
from mnistcli.errors import DataError, UsageError

_IDENTITY = "mnistcli:sweep"
_DATA = "mnistcli:data"


def open_study(storage: BaseStorage, name: str, sweep: Sweep, where: str, way_out: str) -> Study:
    """Return the study of a sweep, a new one where there is none of that name.

    Args:
        storage: where it is written down.
        name: of the study.
        sweep: what it has to be the study of; the number of trials may be another one.
        where: what messages call the sweep.
        way_out: what to do where it is another sweep's.

    Raises:
        UsageError: it is another sweep's.
    """
    parts: dict[str, Any] = {
        "storage": storage,
        "study_name": name,
        "sampler": TrialSampler(sweep),
        "pruner": make_pruner(sweep.pruner),
    }
    with hush():
        try:
            study = optuna.create_study(**parts, direction=sweep.direction)
        except DuplicatedStudyError:
            study = optuna.load_study(**parts)
    identity = sweep.describe_identity()
    known = study.user_attrs.get(_IDENTITY)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(_IDENTITY, identity)
        return study
    if not isinstance(known, dict):
        what = f"the study {name} was not made by mnistcli sweep"
        raise UsageError(where, what, way_out)
    changed = [part for part in {**known, **identity} if known.get(part) != identity.get(part)]
    if changed:
        what = f"not the sweep that began as {name}: {_name_parts(changed)} changed since"
        raise UsageError(where, what, way_out)
    return study


def _name_parts(changed: list[str]) -> str:
    """Say what is not the same; the list of keys only where no key itself tells it."""
    keys = [part.removeprefix("search ") for part in changed if part.startswith("search ")]
    others = [part for part in changed if not part.startswith("search")]
    names = {"base": "the config", "fixed": "set"}
    told = [*(names.get(part, part) for part in others), *keys]
    return ", ".join(told or ["the order of search"])


def check_data(study: Study, location: str, sha256: str | None) -> None:
    """Refuse other data than those that the sweep began with: results could not be compared.

    Raises:
        DataError: they are others.
    """
    known = study.user_attrs.get(_DATA)
    if known is None and sha256 is not None:
        study.set_user_attr(_DATA, sha256)
    elif known != sha256:
        what = f"not the data that the sweep {study.study_name} began with"
        raise DataError(location, what, "point --data-dir to those")
