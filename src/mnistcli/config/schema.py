"""The config: every key with its type, bounds, default and meaning.

It reads from top to bottom as a config does: constants and shared types, then `dataset`, `model`
and `training`, then `Config`. Names and defaults of layers, initializers, losses and optimizers
are Keras'; lengths are in epochs where Keras counts steps. Values are validated strictly: text is
not converted to a number, nor `true` to 1. Rules over several keys are in `cross_field_rules`.
"""

# Without `from __future__ import annotations`: pydantic would parse their text, which takes longer.
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_UNITS = 65_536
MAX_HIDDEN_LAYERS = 64
MAX_CLASSES = 1000
MAX_SEED = 2**32 - 1
MAX_SIDE = 4096
MAX_LABELS = 256  # a label is one byte

# The registry of data sets: a line is a name and its number of classes, which rules of the config
# need before anything is looked for. The rest of a data set is its own module,
# `mnistcli.datasets.<name>`, that `mnistcli.datasets.registry` imports when it is asked for.
CLASS_COUNTS = {
    "mnist": 10,
    "fashion_mnist": 10,
    "cifar10": 10,
    "digits": 10,
    "synthetic": 10,
    "xor": 2,
}

FilesName = Literal["files"]
if TYPE_CHECKING:  # a type checker cannot read names from a dictionary
    DatasetName = str
    AnyDatasetName = str
else:
    DatasetName = Literal[(*CLASS_COUNTS, "auto")]  # auto chooses between mnist and synthetic
    AnyDatasetName = Literal[DatasetName, FilesName]
Normalization = Literal["unit", "standard", "none"]
Activation = Literal[
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "hard_silu", "mish",
    "softplus", "squareplus", "sparse_plus", "softsign", "sigmoid", "hard_sigmoid",
    "sparse_sigmoid", "log_sigmoid", "tanh", "hard_tanh", "tanh_shrink", "soft_shrink",
    "hard_shrink", "exponential", "linear", "softmax", "log_softmax",
]  # fmt: skip


@dataclass(frozen=True)
class LossInfo:
    """Facts about a loss.

    Attributes:
        keras_class: its class in Keras.
        aliases: further names that Keras knows.
        is_multiclass: whether it needs one output unit for each class.
        has_label_smoothing: whether `label_smoothing` applies to it.
    """

    keras_class: str
    aliases: tuple[str, ...] = ()
    is_multiclass: bool = False
    has_label_smoothing: bool = False


# The registry of losses; `mnistcli.metrics.losses` has their formulas.
LOSSES = {
    "categorical_crossentropy": LossInfo(
        "CategoricalCrossentropy", is_multiclass=True, has_label_smoothing=True
    ),
    "sparse_categorical_crossentropy": LossInfo(
        "SparseCategoricalCrossentropy", is_multiclass=True
    ),
    "mean_squared_error": LossInfo("MeanSquaredError", aliases=("mse", "MSE")),
    "binary_crossentropy": LossInfo(
        "BinaryCrossentropy", aliases=("bce", "BCE"), has_label_smoothing=True
    ),
}
if TYPE_CHECKING:
    Loss = str
else:
    Loss = Literal[tuple(LOSSES)]
Precision = Literal["float32", "mixed_bfloat16"]
Metric = Literal["loss", "accuracy", "val_loss", "val_accuracy"]
ValidationMetric = Literal["val_loss", "val_accuracy"]

_WeightBound = Annotated[float, Field(ge=-1e6, le=1e6)]
Penalty = Annotated[float, Field(ge=0, le=1e6)]
DropoutRate = Annotated[
    float, Field(ge=0, lt=1, description="Share of a layer's outputs dropped in training.")
]
LearningRate = Annotated[
    float, Field(gt=0, le=1e6, description="Size of the optimizer's step, above 0.")
]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(gt=0, le=1, description="Keeps divisions away from 0.")]
WeightDecay = Annotated[
    float | None, Field(ge=0, le=1, description="Decoupled weight decay; null: none.")
]
Patience = Annotated[
    int, Field(ge=0, le=1_000_000, description="Epochs without an improvement before it acts.")
]
MinDelta = Annotated[
    float, Field(ge=0, le=1e6, description="What counts as an improvement is larger than this.")
]
EpochCount = Annotated[float, Field(gt=0, le=1e6)]
Bound = Annotated[float | None, Field(gt=0, le=1e6)]
Factor = Annotated[float, Field(gt=0, le=1e6)]


class StrictModel(BaseModel):
    """Base of all models: frozen, without further keys, without conversions between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def name_to_mapping(value: Any) -> Any:
    """Expand the short form `adam` to `{name: adam}`."""
    return {"name": value} if isinstance(value, str) else value


def _units_to_mapping(value: Any) -> Any:
    """Expand the short form `128` to `{units: 128}`."""
    return {"units": value} if type(value) is int else value  # True stays, to be refused


def _mapping_to_list(value: Any) -> Any:
    """Convert `{0: 1.0, 1: 2.0}` to `[1.0, 2.0]`; a mapping that skips a class is left as it is."""
    if not isinstance(value, dict) or not value:
        return value
    keys = [str(number) for number in range(len(value))]
    return [value[key] for key in keys] if set(value) == set(keys) else value


class _DatasetBase(StrictModel):
    """Declares the keys that all data sets have."""

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


class DatasetConfig(_DatasetBase):
    """Which images are learned, and how they become numbers."""

    name: DatasetName = Field(
        "mnist",
        description="The data set; auto is MNIST where it can be had, else synthetic digits; files"
        " are images of one's own.",
    )


class FilesConfig(_DatasetBase):
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


class _ModelBase(StrictModel):
    """Declares the keys that both types of network have."""

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


class SoftmaxModel(_ModelBase):
    """Softmax regression: one Dense layer, nothing hidden."""

    type: Literal["softmax"] = "softmax"


class MlpModel(_ModelBase):
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


class _Optimizer(StrictModel):
    """Declares what Keras keeps for an optimizer in memory and in checkpoints."""

    extra_scalars: ClassVar[int] = 0  # besides the step count and the learning rate

    @property
    def slots(self) -> int:
        """Number of arrays that Keras keeps for each weight, each of the weight's shape."""
        raise NotImplementedError


class Sgd(_Optimizer):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    learning_rate: LearningRate = 0.01
    momentum: Momentum = 0.0
    nesterov: bool = False
    weight_decay: WeightDecay = None

    @property
    def slots(self) -> int:
        """The velocity, where there is momentum."""
        return int(self.momentum > 0)


class Rmsprop(_Optimizer):
    """RMSprop."""

    name: Literal["rmsprop"]
    learning_rate: LearningRate = 0.001
    rho: Momentum = 0.9
    momentum: Momentum = 0.0
    epsilon: Epsilon = 1e-7
    weight_decay: WeightDecay = None

    @property
    def slots(self) -> int:
        """The mean square of the gradient, and the velocity where there is momentum."""
        return 1 + int(self.momentum > 0)


class _AdamBase(_Optimizer):
    """Declares what Adam and its variants have in common."""

    learning_rate: LearningRate = 0.001
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.999
    epsilon: Epsilon = 1e-7

    @property
    def slots(self) -> int:
        """The two moments of the gradient."""
        return 2


class Adam(_AdamBase):
    """Adam."""

    name: Literal["adam"]
    weight_decay: WeightDecay = None


class Nadam(_AdamBase):
    """Adam with Nesterov momentum."""

    extra_scalars: ClassVar[int] = 1  # the product of its momentum schedule

    name: Literal["nadam"]
    weight_decay: WeightDecay = None


class AdamW(_AdamBase):
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


ClassWeight = Annotated[
    Annotated[
        tuple[Annotated[float, Field(ge=0, le=1e6)], ...],
        Field(min_length=2, max_length=MAX_CLASSES, strict=False),
    ]
    | Literal["balanced"]
    | None,
    BeforeValidator(_mapping_to_list),
]


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
    """One complete experiment: the object that every command works with once it is loaded."""

    dataset: AnyDataset = DatasetConfig()
    model: Model = SoftmaxModel()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="before")
    @classmethod
    def _name_dataset(cls, values: Any) -> Any:
        """Give a data set without a name the default's name."""
        # Older configs have none: all data sets had the same keys then.
        given = values.get("dataset") if isinstance(values, dict) else None
        if not isinstance(given, dict) or "name" in given:
            return values
        return {**values, "dataset": {"name": DatasetConfig().name, **given}}

    def with_lengths(self) -> "Config":
        """Return a config whose cosine schedule has a length of its own.

        A schedule without one is as long as the run when it first starts. Its length is set then,
        since the run may be extended later.
        """
        schedule = self.training.schedule
        if not isinstance(schedule, Cosine) or schedule.epochs is not None:
            return self
        schedule = schedule.model_copy(update={"epochs": float(self.training.epochs)})
        training = self.training.model_copy(update={"schedule": schedule})
        return self.model_copy(update={"training": training})
