"""Flags and `--set` take precedence over the file, and notes name what else they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnistcli.config.loading import LoadedConfig, load_config
from mnistcli.config.overrides import Override, parse_assignment
from mnistcli.config.schema import (
    Adam,
    Cosine,
    EarlyStopping,
    Exponential,
    HiddenLayer,
    MlpModel,
    Rmsprop,
    Sgd,
    SoftmaxModel,
)
from mnistcli.errors import ConfigError, UsageError

FILE = """\
model:
  type: mlp
  hidden: [64, {units: 32, name: Narrow}]
  activation: tanh
  kernel_initializer: {name: random_normal, stddev: 1.0}
training:
  optimizer: {name: sgd, learning_rate: 0.5, momentum: 0.9, nesterov: true}
"""


def load(folder: Path, *overrides: Override | str, text: str = FILE) -> LoadedConfig:
    path = folder / "c.yaml"
    path.write_text(text)
    return load_config(
        str(path), [parse_assignment(o) if isinstance(o, str) else o for o in overrides]
    )


def optimizer(name: str) -> Override:
    return Override("training.optimizer.name", name, "--optimizer")


def learning_rate(value: object) -> Override:
    return Override("training.optimizer.learning_rate", value, "--learning-rate")


def lines_for(folder: Path, *overrides: Override | str, text: str = FILE) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(folder, *overrides, text=text)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_set_value_is_strict_yaml() -> None:
    assert parse_assignment("training.optimizer.learning_rate=1e-3") == Override(
        "training.optimizer.learning_rate", 0.001, "--set"
    )
    assert parse_assignment("model.hidden = [256, {units: 128}]") == Override(
        "model.hidden", [256, {"units": 128}], "--set"
    )
    assert parse_assignment("model.hidden.0.name=a=b").value == "a=b"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "training.epochs",
            "--set: 'training.epochs' is no key=value. For example --set training.epochs=10",
        ),
        ("=3", "--set: '=3' is no key=value. For example --set training.epochs=10"),
        ("training.seed=!!int 3", "--set training.seed: tag !!int is not allowed. Remove it"),
        (
            "training.seed=010",
            "--set training.seed: '010' is octal in YAML 1.1 and decimal in YAML 1.2."
            " Write 10 without the leading zero",
        ),
        (
            "model.hidden=[1",
            "--set model.hidden:2:1: not valid YAML: did not find expected ',' or ']'"
            " (while parsing a flow sequence from line 1)."
            " Check the indentation, brackets and quotes up to here",
        ),
    ],
)
def test_a_set_that_cannot_be_read_is_a_usage_error(text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_assignment(text)
    assert str(caught.value) == line


def test_single_keys_are_set_even_inside_lists(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        Override("training.epochs", 3, "--epochs"),
        "model.hidden.0.units=16",
        "model.hidden.1=8",
        learning_rate(1),
    ).config
    assert config.training.epochs == 3
    assert isinstance(config.model, MlpModel)
    assert config.model.hidden == (HiddenLayer(units=16), HiddenLayer(units=8, name="Narrow"))
    assert config.training.optimizer == Sgd(
        name="sgd", learning_rate=1.0, momentum=0.9, nesterov=True
    )


@pytest.mark.parametrize("change", [optimizer("adam"), "training.optimizer=adam"])
def test_a_new_optimizer_takes_its_own_defaults_and_says_so(
    tmp_path: Path, change: Override | str
) -> None:
    loaded = load(tmp_path, change)
    assert loaded.config.training.optimizer == Adam(name="adam")
    assert loaded.notices == (
        "optimizer adam takes its default learning rate 0.001",
        "optimizer adam drops sgd's momentum, nesterov",
    )


@pytest.mark.parametrize(
    "changes",
    [
        [learning_rate(0.1), optimizer("adam")],
        ["training.optimizer={name: adam, learning_rate: 0.1}"],
    ],
)
def test_a_new_optimizer_with_a_learning_rate_needs_no_notice_of_it(
    tmp_path: Path, changes: list[Override | str]
) -> None:
    loaded = load(tmp_path, *changes, text="training: {optimizer: sgd}")
    assert loaded.config.training.optimizer == Adam(name="adam", learning_rate=0.1)
    assert loaded.notices == ()


def test_the_same_optimizer_keeps_the_settings_of_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, optimizer("sgd"))
    assert loaded.config.training.optimizer == Sgd(
        name="sgd", learning_rate=0.5, momentum=0.9, nesterov=True
    )
    assert loaded.notices == ()


def test_a_setting_given_with_the_new_optimizer_is_not_called_dropped(tmp_path: Path) -> None:
    loaded = load(tmp_path, optimizer("rmsprop"), "training.optimizer.momentum=0.5")
    assert loaded.config.training.optimizer == Rmsprop(name="rmsprop", momentum=0.5)
    assert loaded.notices == (
        "optimizer rmsprop takes its default learning rate 0.001",
        "optimizer rmsprop drops sgd's nesterov",
    )


def test_another_type_of_model_keeps_the_keys_that_both_have(tmp_path: Path) -> None:
    loaded = load(tmp_path, Override("model.type", "softmax", "--model"))
    assert isinstance(loaded.config.model, SoftmaxModel)
    assert loaded.config.model.kernel_initializer.name == "random_normal"
    assert loaded.notices == ("model softmax drops mlp's hidden, activation",)


def test_a_model_that_gains_hidden_layers_starts_from_its_defaults() -> None:
    loaded = load_config(
        None,
        [parse_assignment("model.hidden.0.dropout=0.5"), Override("model.type", "mlp", "--model")],
    )
    assert isinstance(loaded.config.model, MlpModel)
    assert loaded.config.model.hidden == (HiddenLayer(units=128, dropout=0.5),)
    assert (loaded.notices, loaded.source) == ((), "mnist-softmax")


def test_another_initializer_says_what_it_does_not_have(tmp_path: Path) -> None:
    loaded = load(tmp_path, "model.kernel_initializer=zeros")
    assert loaded.config.model.kernel_initializer.name == "zeros"
    assert loaded.notices == ("kernel_initializer zeros drops random_normal's stddev",)


REFUSED: list[tuple[list[Override | str], str]] = [
    (
        [Override("training.epochs", 3, "--epochs"), "training.epochs=4"],
        "--set: training.epochs: already given by --epochs. Give it once",
    ),
    (
        ["training.epochs=4", "training.epochs=4"],
        "--set: training.epochs: already given by another --set. Give it once",
    ),
    (
        ["training.optimizer=adam", optimizer("adam")],
        "--optimizer: training.optimizer.name: already given by --set. Give it once",
    ),
    (
        [Override("model.hidden", [3], "--hidden"), "model.hidden.0=3"],
        "--set: model.hidden.0.units: model.hidden is already given by --hidden. Give it once",
    ),
    (
        [Override("training.epochs", 0, "--epochs")],
        "--epochs: training.epochs: expected a whole number from 1 to 1000000, received 0",
    ),
    (
        ["training.optimzer.learning_rate=3"],
        "--set: training.optimzer: unknown key. Did you mean training.optimizer?",
    ),
    (
        ["training.optimizer.learning_rte=3"],
        "--set: training.optimizer.learning_rte: unknown key."
        " Did you mean training.optimizer.learning_rate?",
    ),
    (["epochs=3"], "--set: epochs: unknown key. Did you mean training.epochs?"),
    (["a..b=1"], "--set: a: unknown key. The keys here are dataset, model, training"),
    (
        ["training.epochs.x=1"],
        "--set: training.epochs.x: training.epochs is no block of keys. Set training.epochs itself",
    ),
    (
        ["model.hidden.2.units=1"],
        "--set: model.hidden has no entry 2. Its entries are 0 to 1",
    ),
    (
        ["model.hidden.first.units=1"],
        "--set: model.hidden has no entry first. Its entries are 0 to 1",
    ),
    (
        [optimizer("adm")],
        "--optimizer: training.optimizer.name: expected one of sgd, rmsprop, adam, nadam, adamw,"
        " received 'adm'. Did you mean adam?",
    ),
    (
        [optimizer("adam"), "training.optimizer.momentum=0.5"],
        "--set: training.optimizer.momentum: adam has no momentum."
        " Set training.optimizer.name=sgd too, or leave it out",
    ),
    (
        [
            Override("model.type", "softmax", "--model"),
            Override("model.hidden", [3], "--hidden"),
        ],
        "--hidden: model.hidden: softmax has no hidden layers."
        " Set model.type=mlp too, or leave it out",
    ),
    (
        ["training.optimizer.momentum=0"],
        "--set: training.optimizer.nesterov: nesterov needs momentum above 0."
        " Add --set training.optimizer.momentum=0.9",
    ),
    (["training={}"], "--set: training: an empty mapping sets nothing. Give it a key"),
]


@pytest.mark.parametrize(("overrides", "line"), REFUSED, ids=lambda value: str(value)[:70])
def test_a_refused_override_names_its_flag(
    tmp_path: Path, overrides: list[Override | str], line: str
) -> None:
    assert lines_for(tmp_path, *overrides) == [line]


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("model.hidden.1=8", "--set: model.hidden has no entry 1. Its entries are only 0"),
        (
            "dataset.size.0=8",
            "--set: dataset.size.0: dataset.size is no block of keys. Set dataset.size itself",
        ),
        (
            "model.hidden.0=8",
            "--set: model.hidden: softmax has no hidden layers."
            " Set model.type=mlp too, or leave it out",
        ),
    ],
)
def test_an_entry_of_a_list_that_the_config_does_not_have_is_refused(
    tmp_path: Path, assignment: str, line: str
) -> None:
    assert lines_for(tmp_path, assignment, text="") == [line]


def test_a_flag_that_cannot_be_carried_out_is_not_blamed_for_the_file(tmp_path: Path) -> None:
    text = "training: {schedule: {name: cosine, epochs: 5, warmup_epochs: 5}}"
    assert lines_for(tmp_path, "training.epochs.x=1", text=text) == [
        "c.yaml:1:63: training.schedule.warmup_epochs: a rise of 5 epochs fills all 5."
        " Make it shorter",
        "--set: training.epochs.x: training.epochs is no block of keys. Set training.epochs itself",
    ]


def test_mistakes_of_flags_come_after_those_of_the_file(tmp_path: Path) -> None:
    text = "training:\n  epochs: ten\n  loss: binary_crossentropy\n"
    overrides = [Override("training.epochs", 3, "--epochs"), "training.seed=x", "foo=1"]
    assert lines_for(tmp_path, *overrides, text=text) == [
        "c.yaml:2:11: training.epochs: expected a whole number from 1 to 1000000, received 'ten'",
        "c.yaml:3:9: training.loss: binary_crossentropy does not match softmax outputs."
        " Set training.loss: categorical_crossentropy, or model.output_activation: sigmoid",
        "--set: training.seed: expected a whole number from 0 to 4294967295, received 'x'",
        "--set: foo: unknown key. The keys here are dataset, model, training",
    ]


XOR = Override("dataset.name", "xor", "--dataset")


def test_a_flag_that_clashes_with_a_key_is_the_place(tmp_path: Path) -> None:
    text = "dataset: {normalization: none}\nmodel: {output_activation: sigmoid}\n"
    assert lines_for(tmp_path, XOR, text=text) == [
        "--dataset: training.loss: xor has one output unit, categorical_crossentropy needs one"
        " for each class. Add --set training.loss=mean_squared_error",
    ]


def test_a_flag_that_clashes_with_several_keys_is_one_mistake(tmp_path: Path) -> None:
    assert lines_for(tmp_path, XOR, text="") == [
        "--dataset: dataset.name: xor does not go with dataset.normalization,"
        " model.output_activation, training.loss. Take its own recipe: mnistcli train xor",
    ]
    rival = Override("training.loss", "sparse_categorical_crossentropy", "--set")
    assert lines_for(tmp_path, XOR, rival, text="") == [
        "--dataset: dataset.name: xor does not go with dataset.normalization,"
        " model.output_activation. Take its own recipe: mnistcli train xor",
        "--set: training.loss: xor has one output unit, sparse_categorical_crossentropy needs one"
        " for each class. Add --set training.loss=mean_squared_error",
    ]


def test_an_override_can_mend_a_clash_in_the_file(tmp_path: Path) -> None:
    text = "training: {loss: binary_crossentropy}"
    config = load(tmp_path, "model.output_activation=sigmoid", text=text).config
    assert config.training.loss == "binary_crossentropy"


def test_a_conflict_is_a_config_error_with_exit_code_2(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, "training.seed=1", "training.seed=1")


def test_a_key_below_null_switches_its_block_on(tmp_path: Path) -> None:
    loaded = load(tmp_path, "training.early_stopping.patience=3", "dataset.validation=0.1")
    assert loaded.config.training.early_stopping == EarlyStopping(patience=3)
    assert loaded.config.training.reduce_on_plateau is None


def test_a_name_below_null_chooses_the_kind_of_block(tmp_path: Path) -> None:
    loaded = load(tmp_path, "training.schedule=cosine", "training.schedule.warmup_epochs=2")
    assert loaded.config.training.schedule == Cosine(name="cosine", warmup_epochs=2)
    assert loaded.notices == ()


def test_null_switches_a_block_off_and_another_name_drops_its_keys(tmp_path: Path) -> None:
    text = "training: {schedule: {name: cosine, warmup_epochs: 2}}"
    assert load(tmp_path, "training.schedule=null", text=text).config.training.schedule is None
    loaded = load(tmp_path, "training.schedule=exponential", text=text)
    assert loaded.config.training.schedule == Exponential(name="exponential")
    assert loaded.notices == ("schedule exponential drops cosine's warmup_epochs",)


def test_a_schedule_without_a_name_is_told_the_names(tmp_path: Path) -> None:
    assert lines_for(tmp_path, "training.schedule.decay_rate=0.5") == [
        "--set: training.schedule: the key name is missing."
        " Give it one of cosine, exponential, piecewise"
    ]


def test_deciding_by_a_validation_set_that_a_flag_took_away_blames_the_flag(
    tmp_path: Path,
) -> None:
    text = "dataset: {validation: 0.1}\ntraining: {early_stopping: {patience: 3}}"
    assert lines_for(
        tmp_path, Override("dataset.validation", "test", "--validation"), text=text
    ) == [
        "--validation: training.early_stopping: the test set must not decide about training."
        " Add --validation 0.1"
    ]
