"""How far a resumed run is to go."""

from __future__ import annotations

from mnistcli.commands.train.run_plan import Request
from mnistcli.config import Override, load_config, parse_assignment
from mnistcli.config.schema import Config
from mnistcli.errors import UsageError


def extend_run(config: Config, request: Request, completed: int) -> Config:
    """Set the total number of epochs of a resumed run."""
    text = request.flags.get("--epochs", ("", None))[1]
    if text is not None and request.more is not None:
        raise UsageError(
            "--more", "--epochs says the total already", "give one of --epochs and --more"
        )
    epochs = config.training.epochs
    if request.more is not None:
        epochs = _check_epochs(completed + request.more, "--more")
    elif text is not None:
        epochs = _check_epochs(parse_assignment(f"epochs={text}").value, "--epochs")
        if epochs < completed:
            what = f"{epochs} is less than the {completed} epochs that are done"
            raise UsageError("--epochs", what, "give a larger total, or --more N")
    training = config.training.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"training": training})


def _check_epochs(value: object, flag: str) -> int:
    """A total has the bounds that it has in a config; ConfigError where it breaks them."""
    return load_config(None, [Override("training.epochs", value, flag)]).config.training.epochs
