"""Which of the searched keys made the difference between trials."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import TrialState

from mnistcli.commands.sweep.study import hush
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
