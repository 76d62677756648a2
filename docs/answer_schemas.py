"""Writes the JSON Schemas of what commands print (src/mnistcli/output/schemas) from their types.

A file is named after its command, the form of its output (`--json` where it says nothing) and the
version that the answers hold: train.jsonl.v1.json. `make schemas` runs this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import FloatSchema

import mnistcli.output
from mnistcli.output.results import (
    Answer,
    CalibrationPlotResult,
    CompareResult,
    ConfigResult,
    CopiedRecipeResult,
    CsvRow,
    DataResult,
    DoctorResult,
    DryRunResult,
    EpochResult,
    ErrorDetail,
    ErrorResult,
    EvaluateResult,
    EvaluationRow,
    FetchResult,
    ListResult,
    ManyErrorsDetail,
    OverfitResult,
    PairRow,
    PlotResult,
    Prediction,
    PredictionRow,
    PredictResult,
    RankedPrediction,
    RecipesResult,
    RepeatResult,
    ReportResult,
    ReproduceRecipesResult,
    ReproduceResult,
    ShownRecipeResult,
    SummaryResult,
    SweepPlanResult,
    SweepResult,
    TrainResult,
    TrialLine,
    WeightsSummaryResult,
)
from mnistcli.output.run_list import COLUMNS

DIRECTORY = Path(mnistcli.output.__file__).parent / "schemas"
VERSION = 1


def _with_error(result: type[Answer]) -> Any:
    """Return the type of a result that `emit` prints with an error."""
    return create_model(
        f"Failed{result.__name__}",
        __base__=result,
        __doc__=f"{result.__doc__} With the error that the command ended with.",
        error=(ManyErrorsDetail | ErrorDetail, ...),
    )


class _ListRow(CsvRow):
    """A file in the table of `ls`, in the order of its columns; empty cells are null.

    Behind these columns stands one for each config key in which the runs differ, named by the key.
    """

    model_config = ConfigDict(extra="allow")


ListRow = create_model(
    "ListRow",
    __base__=_ListRow,
    __doc__=_ListRow.__doc__,
    **{
        column.name.replace(".", "_"): (column.type, Field(alias=column.name)) for column in COLUMNS
    },
)


_TRAIN = (
    RepeatResult
    | TrainResult
    | DryRunResult
    | _with_error(OverfitResult)
    | OverfitResult
    | ConfigResult
    | ErrorResult
)
_REPRODUCE = (
    _with_error(ReproduceResult)
    | ReproduceResult
    | _with_error(ReproduceRecipesResult)
    | ReproduceRecipesResult
    | ErrorResult
)
_SWEEP = SweepResult | SweepPlanResult | ErrorResult
_PREDICT = PredictResult | ErrorResult
ANSWERS: dict[str, Any] = {
    "train": _TRAIN,
    "train.jsonl": EpochResult | _TRAIN,
    "evaluate": _with_error(EvaluateResult) | EvaluateResult | ErrorResult,
    "evaluate.csv": EvaluationRow,
    "predict": _PREDICT,
    "predict.jsonl": RankedPrediction | Prediction | _PREDICT,
    "predict.csv": PredictionRow,
    "summary": WeightsSummaryResult | SummaryResult | ErrorResult,
    "ls": ListResult | ErrorResult,
    "ls.csv": ListRow,
    "plot": CalibrationPlotResult | PlotResult | ErrorResult,
    "data": DataResult | FetchResult | ErrorResult,
    "report": ReportResult | ErrorResult,
    "sweep": _SWEEP,
    "sweep.jsonl": TrialLine | _SWEEP,
    "compare": CompareResult | ErrorResult,
    "compare.csv": PairRow,
    "reproduce": _REPRODUCE,
    "doctor": DoctorResult | ErrorResult,
    "recipes list": RecipesResult | ErrorResult,
    "recipes show": ShownRecipeResult | ErrorResult,
    "recipes copy": CopiedRecipeResult | ErrorResult,
    "error": ErrorResult,
}
_TITLES = {
    "json": "What mnistcli {} --json prints.",
    "jsonl": "A line of what mnistcli {} --jsonl prints.",
    "csv": "A line of what mnistcli {} --csv prints, by column; an empty cell is null.",
}


class _Generator(GenerateJsonSchema):
    """Numbers may be null, as those that are not finite are; bounded ones always are finite."""

    def float_schema(self, schema: FloatSchema) -> JsonSchemaValue:
        number = super().float_schema(schema)
        is_bounded = len(number) > 1 or schema.get("allow_inf_nan") is False
        return number if is_bounded else {"type": ["number", "null"]}


def name_file(name: str) -> str:
    """Return the file that holds a schema: `train.jsonl` is in `train.jsonl.v1.json`."""
    return f"{_hyphenate(name)}.v{VERSION}.json"


def _hyphenate(name: str) -> str:
    """Write `recipes list` without a space."""
    return name.replace(" ", "-")


def build_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an answer; keys that it doesn't name may come later."""
    command, _, form = name.partition(".")
    title = _TITLES[form or "json"].format(command)
    if name == "error":
        title = "What every command prints under --json where it fails."
    adapter: TypeAdapter[Any] = TypeAdapter(ANSWERS[name])
    schema = adapter.json_schema(mode="serialization", schema_generator=_Generator)
    return {
        "$schema": _Generator.schema_dialect,
        "$id": f"urn:mnistcli:{_hyphenate(name)}:v{VERSION}",
        "title": title,
        **_open(schema),
    }


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """Say of an object that all its keys are there and that others may be; leave mere noise out."""
    opened: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            opened[key] = {name: _open(item) for name, item in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            opened[key] = _open(value)
        elif key in ("anyOf", "oneOf", "prefixItems"):
            opened[key] = [_open(item) for item in value]
        elif key == "description":
            opened[key] = " ".join(value.split())
        elif key not in ("title", "default", "additionalProperties"):
            opened[key] = value
    if "properties" in opened:
        opened["required"] = list(opened["properties"])
    return _join_types(opened)


def _join_types(schema: dict[str, Any]) -> dict[str, Any]:
    """Write `a number or null` as a list of two types."""
    choices = schema.get("anyOf", [])
    if not choices or any(list(choice) != ["type"] for choice in choices):
        return schema
    types: dict[str, None] = {}
    for choice in choices:
        names = choice["type"]
        types |= dict.fromkeys([names] if isinstance(names, str) else names)
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, "type": list(types)}


def format_schema(name: str) -> str:
    """Return the text of a schema's file."""
    return json.dumps(build_schema(name), indent=2, ensure_ascii=False) + "\n"


def write_schemas(directory: Path = DIRECTORY) -> None:
    """Write every schema to its file."""
    directory.mkdir(exist_ok=True)
    for name in ANSWERS:
        (directory / name_file(name)).write_text(format_schema(name), encoding="utf-8")


if __name__ == "__main__":
    write_schemas()
