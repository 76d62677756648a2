"""Property tests: any text loads or is a ConfigError, and configs survive a round trip."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mnistcli.config.loading import load_config
from mnistcli.config.overrides import Override, parse_assignment
from mnistcli.config.schema import MAX_SEED, MAX_UNITS, Activation, Config, Loss
from mnistcli.config.serialization import config_from_json, config_to_json, dump_config
from mnistcli.errors import ConfigError, UsageError

WORDS = (
    *("dataset", "model", "training", "name", "type", "hidden", "units", "activation", "dropout"),
    *("optimizer", "learning_rate", "momentum", "loss", "epochs", "seed", "shuffle", "validation"),
    *("normalization", "kernel_initializer", "stddev", "adam", "sgd", "mlp", "softmax", "xor"),
    *("schedule", "cosine", "early_stopping", "patience", "clip", "norm", "class_weight"),
    *("mnist", "test", "none", "relu", "zeros", "random_normal", "sigmoid", "nesterov", "optimzer"),
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
keys = st.one_of(st.sampled_from(WORDS), st.text(max_size=4))
trees = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=4),
    max_leaves=12,
)
yamlish_texts = st.lists(
    st.sampled_from([*WORDS, *"{}[]:,-#&*!|>'\"%@`?\n\t ", ": ", "\n  ", "- ", "&a", "*a", "1e-3"])
    | st.text(max_size=3),
    max_size=30,
).map("".join)

anytime = settings(deadline=None)  # a busy machine is no failure

rates = st.floats(1e-9, 1e3)
shares = st.floats(0, 1, exclude_max=True)


def optional(**choices: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=choices)


def literals(annotation: Any) -> st.SearchStrategy[str]:
    return st.sampled_from(annotation.__args__)


initializers = st.one_of(
    st.sampled_from(["glorot_uniform", "he_normal", "zeros", "ones"]),
    optional(mean=st.floats(-10, 10), stddev=st.floats(0, 10)).map(
        lambda more: {"name": "random_normal", **more}
    ),
    optional(minval=st.floats(-10, -1), maxval=st.floats(0, 10)).map(
        lambda more: {"name": "random_uniform", **more}
    ),
)
shared_keys = {
    "output_activation": st.just("sigmoid"),
    "flatten": st.booleans(),
    "kernel_initializer": initializers,
    "bias_initializer": initializers,
    "l1": shares,
    "l2": shares,
}
hidden_layers = st.lists(
    st.integers(1, MAX_UNITS)
    | optional(activation=literals(Activation), dropout=shares).map(
        lambda more: {"units": 7, **more}
    ),
    min_size=1,
    max_size=4,
)
hidden_names = st.sampled_from(["null", "true", "No", "y", "inf", "NaN", "e1", "a-b", "Hidden1"])
models = st.one_of(
    optional(**shared_keys),
    optional(
        hidden=hidden_layers, activation=literals(Activation), dropout=shares, **shared_keys
    ).map(lambda more: {"type": "mlp", **more}),
    hidden_names.map(lambda name: {"type": "mlp", "hidden": [{"units": 1, "name": name}]}),
)
optimizers = st.one_of(
    st.sampled_from(["sgd", "rmsprop", "adam", "nadam", "adamw"]),
    optional(learning_rate=rates, momentum=shares, weight_decay=st.none() | st.floats(0, 1)),
    optional(learning_rate=rates, beta_1=shares, weight_decay=st.none() | st.floats(0, 1)).map(
        lambda more: {"name": "adamw", **more}
    ),
)
schedules = st.one_of(
    st.sampled_from(["cosine", "exponential", None]),
    st.fixed_dictionaries({"name": st.just("cosine"), "epochs": st.floats(1, 1e6)}),
    st.lists(st.integers(1, 1000), min_size=1, max_size=4, unique=True).map(
        lambda boundaries: {
            "name": "piecewise",
            "boundaries": sorted(boundaries),
            "factors": [0.5 for _ in boundaries],
        }
    ),
)
clips = st.none() | st.sampled_from(["norm", "value", "global_norm"]).map(lambda k: {k: 1.0})
valid_configs = optional(
    dataset=optional(
        name=st.sampled_from(["mnist", "fashion_mnist", "cifar10", "digits", "synthetic", "auto"]),
        normalization=st.sampled_from(["unit", "standard", "none"]),
        validation=st.just("test") | shares,
    ),
    model=models,
    training=optional(
        epochs=st.integers(1, 1000),
        optimizer=optimizers,
        loss=literals(Loss).filter(lambda loss: loss != "binary_crossentropy"),
        shuffle=st.booleans(),
        seed=st.integers(0, MAX_SEED),
        schedule=schedules,
        clip=clips,
        class_weight=st.just("balanced") | st.lists(shares, min_size=10, max_size=10),
    ),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs") / "c.yaml"


def assert_loads_or_explains(source: Path, overrides: list[Override]) -> None:
    try:
        config = load_config(str(source), overrides).config
    except ConfigError as error:
        lines = [str(problem) for problem in error.problems]
        assert lines
        assert all(line.isprintable() and ": " in line for line in lines)
    else:
        assert isinstance(config, Config)


@anytime
@given(text=yamlish_texts)
def test_any_text_loads_or_is_a_config_error(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert_loads_or_explains(path, [])


@anytime
@given(data=st.binary(max_size=60))
def test_any_bytes_load_or_are_a_config_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert_loads_or_explains(path, [])


@anytime
@given(tree=trees, overrides=st.lists(st.tuples(st.lists(keys, min_size=1, max_size=3), trees)))
def test_any_mapping_with_any_overrides_loads_or_is_a_config_error(
    path: Path, tree: object, overrides: list[tuple[list[str], object]]
) -> None:
    path.write_text(yaml.safe_dump(tree, allow_unicode=False))
    flags = [Override(".".join(parts), value, "--set") for parts, value in overrides]
    assert_loads_or_explains(path, flags)


@anytime
@given(base=valid_configs, key=st.sampled_from(["dataset", "model", "training"]), tree=trees)
def test_any_block_in_a_valid_config_loads_or_is_a_config_error(
    path: Path, base: dict[str, Any], key: str, tree: object
) -> None:
    path.write_text(yaml.safe_dump(base))
    assert_loads_or_explains(path, [Override(key, tree, "--set")])
    path.write_text(yaml.safe_dump({**base, key: tree}))
    assert_loads_or_explains(path, [])


@anytime
@given(text=yamlish_texts)
def test_any_assignment_is_read_or_is_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_assignment(text).flag == "--set"


@anytime
@given(text=yamlish_texts | trees.map(repr))
def test_any_record_is_read_or_is_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(config_from_json(text, "run.h5"), Config)


@anytime
@given(values=valid_configs)
def test_a_valid_config_survives_yaml_and_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values))
    config = load_config(str(path)).config
    assert config_from_json(config_to_json(config), "run.h5") == config
    path.write_text(dump_config(config))
    assert load_config(str(path)).config == config
