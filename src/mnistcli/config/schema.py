"""The config: every key, its type, its bounds, its default and its meaning, each said once.

The models are strict (a string is no number, `true` is no 1), frozen, and know no other keys.
Names and defaults of layers, initializers, losses and optimizers are Keras'.
Rules over several keys are in `cross_field_rules`; messages read the rest off these classes.

What every block of the config is made of.

How kernels and biases are drawn. Names and defaults are Keras'.

How steps are taken: optimizers, learning rates over time, gradients, and when to stop. Names,
meanings and defaults are Keras'; lengths are in epochs, where Keras counts steps.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class StrictModel(BaseModel):
    """A frozen record that knows no other keys and converts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def name_to_mapping(value: Any) -> Any:
    """Let `adam` stand for `{name: adam}`."""
    return {"name": value} if isinstance(value, str) else value


_WeightBound = Annotated[float, Field(ge=-1e6, le=1e6)]


class RandomNormal(StrictModel):
    """Weights drawn from a normal distribution."""

    name: Literal["random_normal", "truncated_normal"]
    mean: _WeightBound = 0.0
    stddev: float = Field(0.05, ge=0, le=1e6)


class RandomUniform(StrictModel):
    """Weights drawn evenly between two bounds."""

    name: Literal["random_uniform"]
    minval: _WeightBound = -0.05
    maxval: _WeightBound = 0.05


class NamedInitializer(StrictModel):
    """An initializer without parameters of its own."""

    name: Literal[
        "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
        "lecun_uniform", "lecun_normal", "zeros", "ones",
    ]  # fmt: skip


Initializer = Annotated[
    Annotated[NamedInitializer | RandomNormal | RandomUniform, Field(discriminator="name")],
    BeforeValidator(name_to_mapping),
]


MAX_CLASSES = 1000

LearningRate = Annotated[
    float, Field(gt=0, le=1e6, description="Size of the optimizer's step, above 0.")
]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(gt=0, le=1, description="Keeps divisions away from 0.")]
WeightDecay = Annotated[
    float | None, Field(ge=0, le=1, description="Decoupled weight decay; null: none.")
]
Metric = Literal["loss", "accuracy", "val_loss", "val_accuracy"]
ValidationMetric = Literal["val_loss", "val_accuracy"]
Patience = Annotated[
    int, Field(ge=0, le=1_000_000, description="Epochs without an improvement before it acts.")
]
MinDelta = Annotated[
    float, Field(ge=0, le=1e6, description="What counts as an improvement is larger than this.")
]
EpochCount = Annotated[float, Field(gt=0, le=1e6)]
Bound = Annotated[float | None, Field(gt=0, le=1e6)]
Factor = Annotated[float, Field(gt=0, le=1e6)]


class Sgd(StrictModel):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    learning_rate: LearningRate = 0.01
    momentum: Momentum = 0.0
    nesterov: bool = False
    weight_decay: WeightDecay = None


class Rmsprop(StrictModel):
    """RMSprop."""

    name: Literal["rmsprop"]
    learning_rate: LearningRate = 0.001
    rho: Momentum = 0.9
    momentum: Momentum = 0.0
    epsilon: Epsilon = 1e-7
    weight_decay: WeightDecay = None


class _Adaptive(StrictModel):
    """What the Adam family has in common."""

    learning_rate: LearningRate = 0.001
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.999
    epsilon: Epsilon = 1e-7


class Adam(_Adaptive):
    """Adam."""

    name: Literal["adam"]
    weight_decay: WeightDecay = None


class Nadam(_Adaptive):
    """Adam with Nesterov momentum."""

    name: Literal["nadam"]
    weight_decay: WeightDecay = None


class AdamW(_Adaptive):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"]
    weight_decay: WeightDecay = 0.004


Optimizer = Annotated[
    Annotated[Sgd | Rmsprop | Adam | Nadam | AdamW, Field(discriminator="name")],
    BeforeValidator(name_to_mapping),
]


class Cosine(StrictModel):
    """A linear rise from 0 to the optimizer's learning rate, then half a cosine down from it."""

    name: Literal["cosine"]
    epochs: EpochCount | None = Field(
        None, description="Length, warm-up included; null: that of the run when it first starts."
    )
    warmup_epochs: float = Field(0.0, ge=0, le=1e6, description="Length of the rise.")
    alpha: float = Field(
        0.0, ge=0, le=1, description="Share of the learning rate that is left at the end."
    )


class Exponential(StrictModel):
    """The learning rate times `decay_rate` every `decay_epochs`."""

    name: Literal["exponential"]
    decay_rate: float = Field(0.96, gt=0, le=1)
    decay_epochs: EpochCount = 1.0
    staircase: bool = Field(False, description="Change it at once rather than step by step.")


class Piecewise(StrictModel):
    """The learning rate times a factor of its own from each boundary on."""

    name: Literal["piecewise"]
    boundaries: tuple[EpochCount, ...] = Field(
        min_length=1, max_length=100, strict=False, description="Epochs after which it changes."
    )
    factors: tuple[Factor, ...] = Field(
        min_length=1,
        max_length=100,
        strict=False,
        description="What the optimizer's learning rate is multiplied by, one a boundary.",
    )


Schedule = Annotated[
    Annotated[Cosine | Exponential | Piecewise | None, Field(discriminator="name")],
    BeforeValidator(name_to_mapping),
]


class ReduceOnPlateau(StrictModel):
    """Keras' ReduceLROnPlateau."""

    monitor: Metric = "val_loss"
    factor: float = Field(0.1, gt=0, lt=1, description="Times the learning rate, each time.")
    patience: Patience = 10
    min_delta: MinDelta = 1e-4
    cooldown: int = Field(0, ge=0, le=1_000_000, description="Epochs to wait after each time.")
    min_learning_rate: float = Field(0.0, ge=0, le=1e6, description="It goes no lower.")


class EarlyStopping(StrictModel):
    """Keras' EarlyStopping."""

    monitor: ValidationMetric = "val_loss"
    patience: Patience = 5
    min_delta: MinDelta = 0.0
    restore_best: bool = Field(True, description="End with the weights of the best epoch.")


class Clip(StrictModel):
    """Bounds of the gradients, one of Keras' three kinds."""

    norm: Bound = Field(None, description="Of each gradient's norm.")
    value: Bound = Field(None, description="Of each entry's size.")
    global_norm: Bound = Field(None, description="Of the norm of all gradients together.")


def _mapping_to_list(value: Any) -> Any:
    """Let `{0: 1.0, 1: 2.0}` stand for `[1.0, 2.0]`; one that leaves a class out stays itself."""
    if not isinstance(value, dict) or not value:
        return value
    keys = [str(number) for number in range(len(value))]
    return [value[key] for key in keys] if set(value) == set(keys) else value


ClassWeight = Annotated[
    Annotated[
        tuple[Annotated[float, Field(ge=0, le=1e6)], ...],
        Field(min_length=2, max_length=MAX_CLASSES, strict=False),
    ]
    | Literal["balanced"]
    | None,
    BeforeValidator(_mapping_to_list),
]


DatasetName = Literal["mnist", "cifar10", "digits", "synthetic", "xor", "auto"]
FilesName = Literal["files"]
AnyDatasetName = Literal[DatasetName, FilesName]
Normalization = Literal["unit", "standard", "none"]
Activation = Literal[
    "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign",
    "sigmoid", "hard_sigmoid", "tanh", "exponential", "linear", "softmax",
]  # fmt: skip
Loss = Literal[
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "mean_squared_error",
    "binary_crossentropy",
]
Precision = Literal["float32", "mixed_bfloat16"]

MAX_UNITS = 65_536
MAX_HIDDEN_LAYERS = 64
MAX_SEED = 2**32 - 1
MAX_SIDE = 4096
MAX_LABELS = 256  # a label is one byte

Penalty = Annotated[float, Field(ge=0, le=1e6)]
DropoutRate = Annotated[
    float, Field(ge=0, lt=1, description="Share of a layer's outputs dropped in training.")
]


def _units_to_mapping(value: Any) -> Any:
    """Let `128` stand for `{units: 128}`; `true` stays what it is, and is refused."""
    return {"units": value} if type(value) is int else value


class _Dataset(StrictModel):
    """What all data sets have."""

    name: str
    normalization: Normalization = Field(
        "unit",
        description="unit: divide by the largest value, 255 (of digits 16); standard: z-score with"
        " the training set's one mean and deviation; none: as stored.",
    )
    validation: Annotated[float, Field(ge=0, lt=1)] | Literal["test"] = Field(
        0.0,
        description="Fraction of the training set held out for validation, or `test`: the test"
        " set is monitored only, never used to choose.",
    )


class DatasetConfig(_Dataset):
    """Which images are learned, and how they become numbers."""

    name: DatasetName = Field(
        "mnist",
        description="The data set; auto is MNIST where it can be had, else synthetic digits; files"
        " are images of one's own.",
    )


class FilesConfig(_Dataset):
    """Images of one's own, in a folder for each class or in an .npz file."""

    name: FilesName
    path: str = Field(
        min_length=1,
        title="path to a folder of images or to an .npz file",
        description="A folder of images or an .npz file, relative to the working directory.",
    )
    size: (
        Annotated[
            tuple[Annotated[int, Field(ge=1, le=MAX_SIDE)], ...],
            Field(min_length=2, max_length=3, strict=False),
        ]
        | None
    ) = Field(
        None,
        description="What images are brought to: [height, width] in grey, [height, width, 3] in"
        " colour; null: the size that all of them have.",
    )
    classes: (
        Annotated[
            tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
            Field(min_length=2, max_length=MAX_LABELS, strict=False),
        ]
        | None
    ) = Field(
        None,
        description="The classes in order: the folders' names, or names for an .npz file's labels"
        " 0, 1, …; null: the folders in alphabetical order, or the labels.",
    )


AnyDataset = Annotated[DatasetConfig | FilesConfig, Field(discriminator="name")]


class HiddenLayer(StrictModel):
    """One hidden Dense layer; what it leaves out it takes from the model."""

    units: int = Field(ge=1, le=MAX_UNITS, description="Neurons in the layer.")
    activation: Activation | None = Field(None, description="Null: the model's activation.")
    dropout: DropoutRate | None = Field(None, description="Null: the model's dropout.")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$",
        description="Null: Keras' own name, dense, dense_1, …",
    )


class _Model(StrictModel):
    """What both kinds of network have."""

    output_activation: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="What turns the last layer's logits into probabilities."
    )
    flatten: bool = Field(
        False, description="The network takes images and begins with a Flatten layer."
    )
    kernel_initializer: Initializer = Field(
        NamedInitializer(name="glorot_uniform"), description="How kernels are drawn."
    )
    bias_initializer: Initializer = Field(
        NamedInitializer(name="zeros"), description="How biases are drawn."
    )
    l1: Penalty = Field(0.0, description="Times the sum of all kernels' sizes, added to the loss.")
    l2: Penalty = Field(0.0, description="Times the sum of all kernels' squares, added likewise.")


class SoftmaxModel(_Model):
    """Softmax regression: one Dense layer, nothing hidden."""

    type: Literal["softmax"] = "softmax"


class MlpModel(_Model):
    """A multi-layer perceptron: hidden Dense layers, then the output layer."""

    type: Literal["mlp"]
    hidden: Annotated[
        tuple[Annotated[HiddenLayer, BeforeValidator(_units_to_mapping)], ...],
        Field(min_length=1, max_length=MAX_HIDDEN_LAYERS, strict=False),
    ] = Field(
        (HiddenLayer(units=128),),
        title="hidden layers",
        description="The hidden layers, each a number of units or"
        " {units, activation, dropout, name}.",
    )
    activation: Activation = Field("relu", description="Activation of the hidden layers.")
    dropout: DropoutRate = Field(0.0, description="Dropout after each hidden layer.")


Model = Annotated[SoftmaxModel | MlpModel, Field(discriminator="type")]


class TrainingConfig(StrictModel):
    """How the network is fitted."""

    epochs: int = Field(100, ge=1, le=1_000_000, description="Passes over the training set.")
    batch_size: int = Field(
        1024, ge=1, le=1_000_000, description="Images per step; the last, smaller batch counts."
    )
    optimizer: Optimizer = Field(
        Sgd(name="sgd"), description="The optimizer, a name or {name, learning_rate, …}."
    )
    loss: Loss = Field("categorical_crossentropy", description="What training makes small.")
    shuffle: bool = Field(True, description="A new order in every epoch; false: file order.")
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Decides initial weights, orders, splits and dropout."
    )
    precision: Precision = Field(
        "float32",
        description="Number format in which hidden layers compute; weights, the output layer and"
        " the loss are float32 in both.",
    )
    checkpoint_every: int = Field(
        1, ge=1, le=1_000_000, description="Epochs between checkpoints, seconds apart at least."
    )
    schedule: Schedule = Field(None, description="How the learning rate changes; null: it stays.")
    reduce_on_plateau: ReduceOnPlateau | None = Field(
        None, description="Lower the learning rate where a metric gets no better; null: never."
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="End the run where the validation set gains nothing more; null: never."
    )
    clip: Clip | None = Field(None, description="Bound the gradients; null: as they are.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label that is spread over all classes."
    )
    class_weight: ClassWeight = Field(
        None, description="Weight of each class in the loss, or balanced; null: all alike."
    )


class Config(StrictModel):
    """One experiment, complete: the object that every command after the loader works with."""

    dataset: AnyDataset = DatasetConfig()
    model: Model = SoftmaxModel()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="before")
    @classmethod
    def _name_dataset(cls, values: Any) -> Any:
        """Take a data set without a name for the default's, as when all had the same keys."""
        given = values.get("dataset") if isinstance(values, dict) else None
        if not isinstance(given, dict) or "name" in given:
            return values
        return {**values, "dataset": {"name": DatasetConfig().name, **given}}

    def with_lengths(self) -> Config:
        """Write down the length of a schedule that is as long as the run, which may grow."""
        schedule = self.training.schedule
        if not isinstance(schedule, Cosine) or schedule.epochs is not None:
            return self
        schedule = schedule.model_copy(update={"epochs": float(self.training.epochs)})
        training = self.training.model_copy(update={"schedule": schedule})
        return self.model_copy(update={"training": training})
