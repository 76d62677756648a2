"""Error messages of config files: one line each with place, error and hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnistcli.config.loading import load_config
from mnistcli.errors import ConfigError, ExitCode


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines_for(text: str | bytes) -> list[str]:
    Path("c.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml")
    return [str(problem) for problem in caught.value.problems]


XOR = (
    "{dataset: {name: xor, normalization: none},"
    " model: {type: mlp, hidden: [8], output_activation: sigmoid}"
)
ONE_PROBLEM = {
    # unknown keys
    "training:\n  optimzer: sgd\n": (
        "c.yaml:2:3: training.optimzer: unknown key. Did you mean training.optimizer?"
    ),
    "epochs: 3\n": "c.yaml:1:1: epochs: unknown key. Did you mean training.epochs?",
    "dataset: {activation: relu}": (
        "c.yaml:1:11: dataset.activation: unknown key. Did you mean model.activation?"
    ),
    "foo: 3": "c.yaml:1:1: foo: unknown key. The keys here are dataset, model, training",
    '"a b\\n": 3': (
        "c.yaml:1:1: 'a b\\n': unknown key. The keys here are dataset, model, training"
    ),
    "dataset: {1: 2}": (
        "c.yaml:1:11: dataset.1: unknown key. The keys here are name, normalization, validation"
    ),
    "model:\n  hidden: [64]\n": (
        "c.yaml:2:3: model.hidden: softmax has no hidden layers. Set model.type: mlp, or remove it"
    ),
    "training: {optimizer: {name: adam, momentum: 0.9}}": (
        "c.yaml:1:36: training.optimizer.momentum: adam has no momentum."
        " Set training.optimizer.name: sgd or rmsprop, or remove it"
    ),
    "training: {optimizer: {name: adam, adam: 1}}": (
        "c.yaml:1:36: training.optimizer.adam: unknown key. The keys here are learning_rate,"
        " beta_1, beta_2, epsilon, name, weight_decay"
    ),
    "model: {kernel_initializer: {stddev: 1.0}}": (
        "c.yaml:1:30: model.kernel_initializer.stddev: glorot_uniform has no stddev."
        " Set model.kernel_initializer.name: random_normal or truncated_normal, or remove it"
    ),
    # wrong types
    "training:\n  epochs: ten": (
        "c.yaml:2:11: training.epochs: expected a whole number from 1 to 1000000, received 'ten'"
    ),
    "training: {epochs: 10.0}": (
        "c.yaml:1:20: training.epochs: expected a whole number from 1 to 1000000, received 10.0."
        " Write 10"
    ),
    "training: {epochs: '10'}": (
        "c.yaml:1:20: training.epochs: expected a whole number from 1 to 1000000, received '10'."
        " Write 10 without quotes"
    ),
    "training: {epochs: 1_000}": (
        "c.yaml:1:20: training.epochs: expected a whole number from 1 to 1000000,"
        " received '1_000'. Write 1000"
    ),
    "training: {epochs: 1:30}": (
        "c.yaml:1:20: training.epochs: expected a whole number from 1 to 1000000, received '1:30'"
    ),
    "training: {epochs: true}": (
        "c.yaml:1:20: training.epochs: expected a whole number from 1 to 1000000, received true"
    ),
    "training: {epochs: 2001-01-01}": (
        "c.yaml:1:20: training.epochs: expected a whole number from 1 to 1000000,"
        " received '2001-01-01'"
    ),
    "training: {shuffle: yes}": (
        "c.yaml:1:21: training.shuffle: expected true or false, received 'yes'. Write true"
    ),
    "training: {shuffle: 0}": (
        "c.yaml:1:21: training.shuffle: expected true or false, received 0. Write false"
    ),
    "training:\n": (
        "c.yaml:1:10: training: expected a mapping with keys among epochs, batch_size, optimizer,"
        " loss, shuffle, seed, precision, checkpoint_every, schedule, reduce_on_plateau,"
        " early_stopping, clip, label_smoothing, class_weight, received null."
        " Indent its keys below it, or remove it for the defaults"
    ),
    "model: mlp": (
        "c.yaml:1:8: model: expected a mapping with the key type: one of softmax, mlp,"
        " received 'mlp'. Write {type: mlp}"
    ),
    "training: {optimizer: [sgd]}": (
        "c.yaml:1:23: training.optimizer: expected one of sgd, rmsprop, adam, nadam, adamw,"
        " or a mapping with the key name, received a list of 1"
    ),
    "model: {type: mlp, hidden: 64}": (
        "c.yaml:1:28: model.hidden: expected a list of 1 to 64 entries, received 64. Write [64]"
    ),
    "model: {type: mlp, hidden: []}": (
        "c.yaml:1:28: model.hidden: expected a list of 1 to 64 entries, received an empty list"
    ),
    "model: {type: mlp, hidden: [{name: a}]}": (
        "c.yaml:1:29: model.hidden.0.units: missing. Give it a whole number from 1 to 65536"
    ),
    "model: {type: mlp, hidden: [64, true]}": (
        "c.yaml:1:33: model.hidden.1: expected a whole number from 1 to 65536, or a mapping with"
        " keys among units, activation, dropout, name, received true"
    ),
    "model: {type: mlp, hidden: [{units: 3, name: 1a}]}": (
        "c.yaml:1:46: model.hidden.0.name: expected text that matches"
        " ^[A-Za-z][A-Za-z0-9_-]{0,63}$, or null, received '1a'"
    ),
    # choices
    "dataset: {name: mnits}": (
        "c.yaml:1:17: dataset.name: expected one of mnist, fashion_mnist, cifar10, digits,"
        " synthetic, xor, auto, files, received 'mnits'. Did you mean mnist?"
    ),
    "dataset: {name: files}": (
        "c.yaml:1:17: dataset.path: missing. Give the path to a folder of images or to an .npz file"
    ),
    "dataset: {path: flowers}": (
        "c.yaml:1:11: dataset.path: mnist has no path to a folder of images or to an .npz file."
        " Set dataset.name: files, or remove it"
    ),
    "dataset: {name: files, path: flowers, size: [28, 28, 4]}": (
        "c.yaml:1:54: dataset.size.2: an image has 3 colours, received 4. Write"
        " [height, width, 3], or [height, width] for grey"
    ),
    "dataset: {name: files, path: flowers, classes: [rose, rose]}": (
        "c.yaml:1:55: dataset.classes.1: rose is there twice. Name each class once"
    ),
    "{dataset: {name: files, path: f, classes: [a, b]}, model: {output_activation: sigmoid}}": (
        "c.yaml:1:79: training.loss: categorical_crossentropy does not match the one sigmoid unit"
        " that tells two classes apart. Set training.loss: binary_crossentropy, or"
        " model.output_activation: softmax"
    ),
    "training: {optimizer: adm}": (
        "c.yaml:1:23: training.optimizer: expected one of sgd, rmsprop, adam, nadam, adamw,"
        " received 'adm'. Did you mean adam?"
    ),
    "training: {optimizer: {name: 3}}": (
        "c.yaml:1:30: training.optimizer.name: expected one of sgd, rmsprop, adam, nadam, adamw,"
        " received 3"
    ),
    "dataset: {validation: tset}": (
        "c.yaml:1:23: dataset.validation: expected a number from 0 to below 1, or test,"
        " received 'tset'. Did you mean test?"
    ),
    # words of other tools
    "training: {lr: 0.1}": (
        "c.yaml:1:12: training.lr: unknown key. Did you mean training.optimizer.learning_rate?"
    ),
    "model: {type: mlp, hidden: [{units: 8, act: relu}]}": (
        "c.yaml:1:40: model.hidden.0.act: unknown key. Did you mean model.hidden.0.activation?"
    ),
    "model: {act: relu}": "c.yaml:1:9: model.act: unknown key. Did you mean model.activation?",
    "model: {type: mlp, hidden_layers: [64]}": (
        "c.yaml:1:20: model.hidden_layers: unknown key. Did you mean model.hidden?"
    ),
    "random_seed: 3": "c.yaml:1:1: random_seed: unknown key. Did you mean training.seed?",
    "training: {patience: 3}": (
        "c.yaml:1:12: training.patience: unknown key."
        " Did you mean training.early_stopping.patience?"
    ),
    "training: {optimizer: {type: adam}}": (
        "c.yaml:1:24: training.optimizer.type: unknown key. Did you mean training.optimizer.name?"
    ),
    "training: {precision: fp16}": (
        "c.yaml:1:23: training.precision: expected one of float32, mixed_bfloat16, received 'fp16'."
        " Did you mean mixed_bfloat16?"
    ),
    "training: {optimizer: torch.optim.AdamW}": (
        "c.yaml:1:23: training.optimizer: expected one of sgd, rmsprop, adam, nadam, adamw,"
        " received 'torch.optim.AdamW'. Did you mean adamw?"
    ),
    "model: {kernel_initializer: xavier}": (
        "c.yaml:1:29: model.kernel_initializer: expected one of glorot_uniform, glorot_normal,"
        " he_uniform, he_normal, lecun_uniform, lecun_normal, zeros, ones, random_normal,"
        " truncated_normal, random_uniform, received 'xavier'. Did you mean glorot_uniform?"
    ),
    # values in other notations
    "dataset: {name: files, path: f, classes: [0, b]}": (
        'c.yaml:1:43: dataset.classes.0: expected text, received 0. Write "0"'
    ),
    "dataset: {name: files, path: f, size: [28, 2.5]}": (
        "c.yaml:1:44: dataset.size.1: expected a whole number from 1 to 4096, received 2.5"
    ),
    "dataset: {name: files, path: f, size: 28x28}": (
        "c.yaml:1:39: dataset.size: expected a list of 2 to 3 entries, or null, received '28x28'."
        " Write [28, 28]"
    ),
    "training: {class_weight: [1, a, 1, 1, 1, 1, 1, 1, 1, 1]}": (
        "c.yaml:1:30: training.class_weight.1: expected a number from 0 to 1000000, received 'a'"
    ),
    "dataset: {validation: 20%}": (
        "c.yaml:1:23: dataset.validation: expected a number from 0 to below 1, or test,"
        " received '20%'. Write 0.2"
    ),
    "training:\n  optimizer:\n    learning_rate: 0,001\n": (
        "c.yaml:3:20: training.optimizer.learning_rate: expected a number above 0, up to 1000000,"
        " received '0,001'. Write 0.001"
    ),
    "training:\n  epochs: 1,000\n": (
        "c.yaml:2:11: training.epochs: expected a whole number from 1 to 1000000,"
        " received '1,000'. Write 1000"
    ),
    "training: {epochs: 1,024}": (
        "c.yaml:1:22: training.024: unknown key. In braces a comma ends a value: write numbers"
        " without one, and lists in brackets"
    ),
    "training: {epochs: 10k}": (
        "c.yaml:1:20: training.epochs: expected a whole number from 1 to 1000000,"
        " received '10k'. Write 10000"
    ),
    "training: {epochs: 5 epochs}": (
        "c.yaml:1:20: training.epochs: expected a whole number from 1 to 1000000,"
        " received '5 epochs'. Write 5"
    ),
    "model:\n  type: mlp\n  hidden: (64, 32)\n": (
        "c.yaml:3:11: model.hidden: expected a list of 1 to 64 entries, received '(64, 32)'."
        " Write [64, 32]"
    ),
    "model: {type: mlp, hidden: [64 32]}": (
        "c.yaml:1:29: model.hidden.0: expected a whole number from 1 to 65536, or a mapping with"
        " keys among units, activation, dropout, name, received '64 32'. Write 64, 32"
    ),
    "training: {schedule: none}": (
        "c.yaml:1:22: training.schedule: expected one of cosine, exponential, piecewise,"
        " received 'none'. Write null"
    ),
    "training: {early_stopping: true}": (
        "c.yaml:1:28: training.early_stopping: expected a mapping with keys among monitor,"
        " patience, min_delta, restore_best, or null, received true. Write {monitor: val_loss}"
    ),
    # ranges
    "model: {type: mlp, hidden: [64, 0]}": (
        "c.yaml:1:33: model.hidden.1: expected a whole number from 1 to 65536, received 0"
    ),
    "training: {seed: -1}": (
        "c.yaml:1:18: training.seed: expected a whole number from 0 to 4294967295, received -1"
    ),
    "training: {optimizer: {learning_rate: 0}}": (
        "c.yaml:1:39: training.optimizer.learning_rate: expected a number above 0, up to 1000000,"
        " received 0"
    ),
    "training: {optimizer: {learning_rate: 1e400}}": (
        "c.yaml:1:39: training.optimizer.learning_rate: expected a number above 0, up to 1000000,"
        " received inf"
    ),
    "training: {optimizer: {learning_rate: .nan}}": (
        "c.yaml:1:39: training.optimizer.learning_rate: expected a number above 0, up to 1000000,"
        " received nan"
    ),
    "training: {optimizer: {name: adamw, weight_decay: -.inf}}": (
        "c.yaml:1:51: training.optimizer.weight_decay: expected a number from 0 to 1, or null,"
        " received -inf"
    ),
    # the YAML itself
    "training: {epochs: 010}": (
        "c.yaml:1:20: training.epochs: '010' is octal in YAML 1.1 and decimal in YAML 1.2."
        " Write 10 without the leading zero"
    ),
    f"training: {{epochs: {'9' * 5000}}}": (
        "c.yaml:1:20: training.epochs: a number of 5000 digits. Write a smaller one"
    ),
    "training:\n  epochs: 3\n  epochs: 4\n": (
        "c.yaml:3:3: training.epochs: key given twice, first on line 2. Remove one of them"
    ),
    "training: !!python/object:os.system {epochs: 3}": (
        "c.yaml:1:11: training: tag !!python/object:os.system is not allowed. Remove it"
    ),
    "training: {seed: !!timestamp 2001-01-01}": (
        "c.yaml:1:18: training.seed: tag !!timestamp is not allowed. Remove it"
    ),
    "training: {optimizer: {name: !!binary YWRhbQ==}}": (
        "c.yaml:1:30: training.optimizer.name: tag !!binary is not allowed. Remove it"
    ),
    "training: {seed: *s}": (
        "c.yaml:1:18: training.seed: alias *s has no finished anchor &s before it."
        " Write the value itself"
    ),
    "? [a]\n: 1": "c.yaml:1:3: expected a key, a plain word. Write key: value",
    "- 1": (
        "c.yaml:1:1: expected the blocks dataset, model and training at the top level."
        " Write key: value lines"
    ),
    "{}\n---\n{}\n": "c.yaml:2:1: a second document begins. Keep one document a file",
    "training:\n\tepochs: 3": (
        "c.yaml:2:1: not valid YAML: found character that cannot start any token."
        " Indent with spaces, and put quotes around text that begins with @, ` or %"
    ),
    "training: {epochs: 3": (
        "c.yaml:2:1: not valid YAML: did not find expected ',' or '}'"
        " (while parsing a flow mapping from line 1)."
        " Check the indentation, brackets and quotes up to here"
    ),
    "a: b: c": (
        "c.yaml:1:5: not valid YAML: mapping values are not allowed in this context."
        " Check the indentation; put quotes around text that contains a colon"
    ),
    "training: {<<: {epochs: 3}}": (
        "c.yaml:1:12: training.<<: merge keys (<<) are not part of YAML 1.2."
        " Write the keys themselves"
    ),
    "training:\n\u00a0\u00a0epochs: 3": (
        "c.yaml:2:1: no-break space (U+00A0) where YAML takes spaces alone."
        " Replace it by a space of the keyboard"
    ),
    "training:\n  epochs:\u2003three": (
        "c.yaml:2:10: em space (U+2003) where YAML takes spaces alone."
        " Replace it by a space of the keyboard"
    ),
    "training: {epochs: 3}".encode("utf-16"): (
        "c.yaml: it is UTF-16 text, as Windows may write it. Save it with the encoding UTF-8"
    ),
    "training: {epochs: 3}".encode("utf-16-be"): (
        "c.yaml: it is UTF-16 text, as Windows may write it. Save it with the encoding UTF-8"
    ),
    b"a: 1\nb: \xff": "c.yaml:2:4: byte 0xff is not UTF-8. Save the file as UTF-8 text",
    "a: \0": "c.yaml:1:4: character U+0000 is not allowed in YAML. Remove it",
    "[" * 100: "c.yaml:1:34: nested more than 32 deep. A config is at most 5 deep",
    "#" * (2**20 + 1): (
        "c.yaml: larger than 1 MiB, too large for a config. Give a config's YAML file"
    ),
    # several keys together
    "training: {loss: binary_crossentropy}": (
        "c.yaml:1:18: training.loss: binary_crossentropy does not match softmax outputs."
        " Set training.loss: categorical_crossentropy, or model.output_activation: sigmoid"
    ),
    "model: {type: mlp, hidden: [{units: 3, name: dense_1}]}": (
        "c.yaml:1:46: model.hidden.0.name: dense_1 is a name that Keras gives itself."
        " Choose another, or leave the name out"
    ),
    "model: {type: mlp, hidden: [{units: 3, name: a}, {units: 3, name: a}]}": (
        "c.yaml:1:67: model.hidden.1.name: a is the name of model.hidden.0 too. Choose another"
    ),
    "training: {optimizer: {nesterov: true}}": (
        "c.yaml:1:34: training.optimizer.nesterov: nesterov needs momentum above 0."
        " Set momentum: 0.9"
    ),
    "model: {bias_initializer: {name: random_uniform, minval: 1}}": (
        "c.yaml:1:58: model.bias_initializer.minval: minval 1.0 is above maxval 0.05. Exchange them"
    ),
    # features of training
    "training: {schedule: cosin}": (
        "c.yaml:1:22: training.schedule: expected one of cosine, exponential, piecewise,"
        " received 'cosin'. Did you mean cosine?"
    ),
    "training: {schedule: 5}": (
        "c.yaml:1:22: training.schedule: expected one of cosine, exponential, piecewise,"
        " or a mapping with the key name, or null, received 5"
    ),
    "training: {schedule: {name: cosine, decay_rate: 0.5}}": (
        "c.yaml:1:37: training.schedule.decay_rate: cosine has no decay_rate."
        " Set training.schedule.name: exponential, or remove it"
    ),
    "training: {schedule: {name: cosine, epochs: 5, warmup_epochs: 5}}": (
        "c.yaml:1:63: training.schedule.warmup_epochs: a rise of 5 epochs fills all 5."
        " Make it shorter"
    ),
    "training: {schedule: {name: piecewise, boundaries: [3, 3], factors: [1, 2]}}": (
        "c.yaml:1:52: training.schedule.boundaries: they do not rise. Put them in order"
    ),
    "training: {schedule: {name: piecewise, boundaries: [3], factors: [1, 2]}}": (
        "c.yaml:1:66: training.schedule.factors: 2 for 1 boundary. Give one a boundary"
    ),
    "training: {reduce_on_plateau: {monitor: loss}, schedule: cosine}": (
        "c.yaml:1:31: training.reduce_on_plateau: a learning rate that follows a schedule cannot"
        " be lowered on a plateau too. Remove one of the two"
    ),
    "training: {early_stopping: {}}": (
        "c.yaml:1:28: training.early_stopping: it monitors val_loss, and there is no validation"
        " set. Set dataset.validation: 0.1"
    ),
    "{dataset: {validation: test}, training: {reduce_on_plateau: {}}}": (
        "c.yaml:1:61: training.reduce_on_plateau: the test set must not decide about training."
        " Set dataset.validation: 0.1"
    ),
    f"{XOR}, training: {{loss: mean_squared_error, reduce_on_plateau: {{}}}}}}": (
        "c.yaml:1:162: training.reduce_on_plateau: it monitors val_loss, and there is no"
        " validation set. Set monitor: loss"
    ),
    f"{XOR}, training: {{loss: mean_squared_error, early_stopping: {{}}}}}}": (
        "c.yaml:1:159: training.early_stopping: it monitors val_loss, and there is no validation"
        " set. Leave it out: xor's four rows leave none to hold out"
    ),
    "training: {early_stopping: {monitor: loss}}": (
        "c.yaml:1:38: training.early_stopping.monitor: expected one of val_loss, val_accuracy,"
        " received 'loss'. Did you mean val_loss?"
    ),
    "training: {early_stopping: 3}": (
        "c.yaml:1:28: training.early_stopping: expected a mapping with keys among monitor,"
        " patience, min_delta, restore_best, or null, received 3. Write {patience: 3}"
    ),
    "training: {clip: {norm: 1.0, value: 2.0}}": (
        "c.yaml:1:18: training.clip: expected exactly one of norm, value, global_norm."
        " Write clip: {norm: 1.0}"
    ),
    "training: {class_weight: [1, 2]}": (
        "c.yaml:1:26: training.class_weight: mnist has 10 classes, received 2 weights."
        " Give 10, or balanced"
    ),
    "training: {class_weight: ballanced}": (
        "c.yaml:1:26: training.class_weight: expected a list of 2 to 1000 entries, or balanced,"
        " or null, received 'ballanced'. Did you mean balanced?"
    ),
    "training: {label_smoothing: 0.1, loss: mean_squared_error}": (
        "c.yaml:1:29: training.label_smoothing: mean_squared_error has no label smoothing."
        " Set training.loss: categorical_crossentropy"
    ),
}


@pytest.mark.parametrize("text", ONE_PROBLEM, ids=lambda text: repr(text[:60]))
def test_a_mistake_is_one_line_with_place_and_way_out(text: str | bytes) -> None:
    assert lines_for(text) == [ONE_PROBLEM[text]]


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = (
        "training:\n"
        "  seed: 1.5\n"
        "  seed: 2\n"
        "  optimizer: {name: sgd, nesterov: true, rho: 1}\n"
        "dataset: {name: xor, normalization: none}\n"
        "model: {output_activation: sigmod, flatten: true}\n"
    )
    assert lines_for(text) == [
        "c.yaml:3:3: training.seed: key given twice, first on line 2. Remove one of them",
        "c.yaml:4:36: training.optimizer.nesterov: nesterov needs momentum above 0."
        " Set momentum: 0.9",
        "c.yaml:4:42: training.optimizer.rho: sgd has no rho."
        " Set training.optimizer.name: rmsprop, or remove it",
        "c.yaml:5:17: training.loss: xor has one output unit, categorical_crossentropy needs one"
        " for each class. Set loss: mean_squared_error or binary_crossentropy",
        "c.yaml:6:28: model.output_activation: expected one of softmax, sigmoid,"
        " received 'sigmod'. Did you mean sigmoid?",
        "c.yaml:6:45: model.flatten: xor's rows are no images. Set flatten: false",
    ]


def test_xor_refuses_what_its_four_rows_and_one_unit_cannot_do() -> None:
    assert lines_for("dataset:\n  validation: 0.5\n  name: xor\n") == [
        "c.yaml:2:15: dataset.validation: xor's four rows leave none to hold out."
        " Set validation: 0.0",
        "c.yaml:3:9: dataset.normalization: xor's rows are 0 and 1 already, unit would divide"
        " them by 255. Set normalization: none",
        "c.yaml:3:9: model.output_activation: xor has one output unit, and softmax of one unit is"
        " always 1. Set output_activation: sigmoid",
        "c.yaml:3:9: training.loss: xor has one output unit, categorical_crossentropy needs one"
        " for each class. Set loss: mean_squared_error or binary_crossentropy",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "# note:\u00a0x\ntraining: {epochs: 3}",
        "training: {epochs: 3}\ndataset: {name: files, path: 'a:\u00a0b'}",
        "training: {epochs: 3}\ndataset: {name: files, path: a\u00a0b}",
    ],
)
def test_wide_spaces_in_comments_and_quotes_are_text(text: str) -> None:
    Path("c.yaml").write_text(text, encoding="utf-8")
    assert load_config("c.yaml").config.training.epochs == 3


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_trains_the_defaults_and_says_so(text: str) -> None:
    Path("c.yaml").write_text(text)
    loaded = load_config("c.yaml")
    assert loaded.config == load_config("mnist-softmax").config.model_copy()
    assert loaded.notices == ("c.yaml is empty: the defaults are trained",)


@pytest.mark.parametrize(
    "text",
    [
        "model: {output_activation: sigmoid}\ntraining: {loss: categorical_crossentropy}",
        "model: {output_activation: sigmoid}\ntraining: {loss: sparse_categorical_crossentropy}",
        "model: {output_activation: sigmoid}\ntraining: {loss: binary_crossentropy}",
        "training: {loss: mean_squared_error}",
    ],
)
def test_heads_and_losses_that_match_are_legal(text: str) -> None:
    Path("c.yaml").write_text(text)
    assert load_config("c.yaml").notices == ()


def test_aliases_are_expanded_but_not_without_bound() -> None:
    laughs = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert lines_for(laughs) == [
        "c.yaml:4:36: more than 10000 values, aliases expanded. A config needs a few dozen"
    ]


def test_a_config_error_leaves_with_exit_code_2() -> None:
    assert ConfigError.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "mnist-sofmax",
            "mnist-sofmax: no such file or recipe in HERE. Did you mean mnist-softmax?",
        ),
        ("mine.yml", "mine.yml: no such file or recipe in HERE. Did you mean mine.yaml?"),
        (
            "below/mine.yml",
            "below/mine.yml: no such file or recipe in HERE/below. Did you mean below/mine.yaml?",
        ),
        ("below", "below: is a folder. Give the path of a YAML file in it"),
        (
            "qqq",
            "qqq: no such file or recipe in HERE. Give a YAML file, or one of the recipes"
            " mnist-softmax, cifar10-mlp, mnist-gradient-tape, mnist-mlp, mnist-softmax-adam,"
            " mnist-softmax-b100, mnist-softmax-b2048, mnist-softmax-sgd5, xor",
        ),
    ],
)
def test_a_source_that_is_not_there_names_the_nearest(source: str, line: str) -> None:
    Path("below").mkdir()
    for name in ("mine.yaml", "below/mine.yaml"):
        Path(name).write_text("")
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    expected = line.replace("HERE", str(Path.cwd()))
    assert [str(problem) for problem in caught.value.problems] == [expected]


@pytest.mark.parametrize("source", ["", "a\0b", "x" * 5000])
def test_a_source_that_cannot_be_a_file_is_a_config_error(source: str) -> None:
    with pytest.raises(ConfigError):
        load_config(source)
