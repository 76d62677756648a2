"""What there is to know about configs: the JSON of `recipes` and of `train --print-config`.

As in `results`, keys are promises.
"""

from __future__ import annotations

from mnistcli.config.schema import Config
from mnistcli.output.answers import Answer, AnswerPart
from mnistcli.output.results import Name


class MeasuredResult(AnswerPart):
    """What a recipe came to here, with one seed."""

    seed: int
    test_accuracy: float


class RecipeResult(AnswerPart):
    """One recipe; `published_test_accuracy` is null where its author printed none.

    `hidden` holds the units of the hidden layers, `seconds_per_epoch` the time of a warm one.
    """

    name: str
    about: str
    dataset: str
    model: str
    hidden: tuple[int, ...]
    epochs: int
    published_test_accuracy: float | None
    measured: tuple[MeasuredResult, ...]
    seconds_per_epoch: float


class RecipesResult(Answer):
    """The answer of `recipes list`."""

    recipes: tuple[RecipeResult, ...]


class ShownRecipeResult(Answer):
    """The answer of `recipes show`: the file as it is."""

    name: str
    yaml: str


class CopiedRecipeResult(Answer):
    """The answer of `recipes copy`: the new file, and the schema that its first line names."""

    path: Name
    editor_schema: Name


class ConfigResult(Answer):
    """The answer of `train --print-config`: the config, and where each dotted key comes from."""

    config: Config
    origins: dict[str, str]
