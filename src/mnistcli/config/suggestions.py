"""What was probably meant by an unknown word: a synonym from other tools, or the nearest spelling.

One table serves flags, config keys, their values, and commands: of a word's synonyms the first is
suggested that the place where it stands knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LEARNING_RATE = "training.optimizer.learning_rate"
_STOPPING = "training.early_stopping"

# The words of Keras, PyTorch, scikit-learn, Ultralytics and others, lower case with underscores.
# A word without synonyms has none here, however near another may be spelt.
_SYNONYMS: dict[str, tuple[str, ...]] = {}
for _meanings, _words in {
    # config keys, and the flags that set them
    ("training.epochs",): "epoch n_epochs num_epochs nb_epoch nb_epochs max_epochs max_iter"
    " num_train_epochs iterations e",
    (_LEARNING_RATE,): "lr lr0 learning_rate_init initial_lr base_lr eta eta0 rate",
    ("training.batch_size",): "bs batch batchsize mini_batch_size train_batch_size b",
    ("training.optimizer.name", "training.optimizer"): "opt optim solver optimiser",
    ("training.optimizer.momentum",): "mom nesterov_momentum",
    ("training.optimizer.weight_decay",): "wd decay",
    ("training.optimizer.beta_1",): "beta1 betas",
    ("training.optimizer.beta_2",): "beta2",
    ("training.optimizer.epsilon",): "eps",
    ("training.seed",): "random_seed random_state manual_seed rng_seed",
    ("training.loss",): "criterion loss_fn loss_function objective cost",
    ("training.shuffle",): "no_shuffle",
    ("training.precision", "mixed_bfloat16"): "amp fp16 bf16 half mixed_precision dtype",
    ("training.schedule",): "scheduler lr_scheduler lr_schedule learning_rate_schedule cos_lr",
    ("training.schedule.warmup_epochs",): "warmup",
    (_STOPPING,): "early_stop earlystopping",
    (f"{_STOPPING}.patience", "patience"): "patience n_iter_no_change",
    ("training.reduce_on_plateau",): "reduce_lr_on_plateau reducelronplateau",
    ("training.clip.norm",): "clipnorm clip_norm grad_clip gradient_clip_val max_grad_norm",
    ("training.clip.value",): "clipvalue clip_value",
    ("training.class_weight",): "class_weights pos_weight",
    ("training.label_smoothing",): "smoothing",
    ("training.checkpoint_every",): "save_period save_freq save_every save_steps",
    ("model", "model.type"): "arch architecture net network model_type kind",
    ("model.hidden",): "hidden_layers layers hidden_units hidden_sizes hidden_size hidden_dim"
    " hidden_layer_sizes units neurons num_units",
    ("model.activation",): "act activation_fn activation_function nonlinearity",
    ("model.dropout",): "dropout_rate drop drop_rate drop_prob",
    ("model.l2",): "l2_regularization kernel_regularizer weight_penalty",
    ("model.l1",): "l1_regularization",
    ("model.kernel_initializer",): "initializer init weight_init kernel_init",
    ("model.output_activation",): "head last_activation final_activation",
    ("dataset.name", "--dataset"): "ds dataset_name",
    ("dataset.path", "--data"): "data_path dataset_path train_dir root",
    ("dataset.validation",): "val val_split validation_split validation_fraction valid val_size",
    ("dataset.normalization",): "normalize normalise normalisation scaling rescale",
    ("dataset.size",): "imgsz img_size image_size input_shape input_size target_size",
    ("dataset.classes",): "names class_names labels",
    # flags
    ("--output",): "out save_dir save_path save output_dir out_dir outfile project model_dir",
    ("--data",): "source input_dir folder images",
    ("--data-dir",): "datadir data_root dataset_dir",
    ("--resume",): "checkpoint ckpt continue restart",
    ("--init-from",): "weights pretrained load_weights finetune load",
    ("--overwrite",): "exist_ok replace force_overwrite",
    ("--devices",): "gpus num_gpus n_gpus device gpu",
    ("--jobs",): "n_jobs workers num_workers max_workers parallel j",
    ("--version", "--log-level"): "v",
    ("--version",): "version",
    ("--help",): "help usage",
    ("--log-level",): "verbose verbosity loglevel",
    ("--tensorboard",): "logdir log_dir tb",
    ("--quiet",): "silent",
    ("--dry-run",): "check simulate",
    ("--more",): "additional_epochs",
    ("--top",): "topk top_k k",
    ("--fail-under",): "threshold min_accuracy",
    ("--split",): "subset",
    ("--first",): "limit num_samples max_samples head n",
    ("--index",): "idx row",
    # values
    ("mean_squared_error",): "mse l2_loss",
    ("binary_crossentropy",): "bce binary_cross_entropy",
    ("categorical_crossentropy",): "ce cce crossentropy cross_entropy nll crossentropyloss",
    ("sparse_categorical_crossentropy",): "scce sparse_crossentropy",
    ("silu",): "swish",
    ("leaky_relu",): "lrelu leakyrelu",
    ("linear",): "none identity",
    ("mlp",): "dense fc nn neural_network multilayer_perceptron cnn",
    ("softmax",): "logistic logreg logistic_regression",
    ("standard",): "zscore z_score standardize standardise meanstd",
    ("unit",): "minmax min_max 0_1 divide",
    ("glorot_uniform",): "xavier xavier_uniform glorot",
    ("glorot_normal",): "xavier_normal",
    ("he_normal",): "he kaiming kaiming_normal",
    ("he_uniform",): "kaiming_uniform",
    ("truncated_normal",): "trunc_normal",
    ("random_normal",): "normal gaussian",
    ("random_uniform",): "uniform",
    ("mixed_bfloat16",): "bfloat16 mixed_float16 float16",
    ("piecewise",): "step multistep steplr",
    ("exponential",): "exp exponentiallr",
    ("cosine",): "cosine_annealing cosineannealinglr",
    ("cifar10",): "cifar cifar_10",
    ("files",): "custom image_folder imagefolder folder",
    ("validation",): "dev",
    ("train",): "fit",
    # commands
    ("evaluate",): "eval test validate score accuracy",
    ("predict",): "infer inference classify detect",
    ("summary",): "info show describe inspect print",
    ("ls",): "list dir models runs",
    ("sweep",): "tune hpo optimize search grid tuner",
    ("recipes",): "configs config examples presets zoo",
    ("data",): "download dataset datasets",
    ("plot",): "visualize draw curves",
    ("doctor",): "env versions sysinfo",
    ("compare",): "diff",
    # values of other flags
    ("dark",): "black",
    ("light",): "white",
    ("none",): "off disable",
    # kinds of plots
    ("curves",): "history loss accuracy learning_curves",
    ("weights",): "filters filter kernels",
    ("mistakes",): "errors wrong misclassified",
    (): "export convert deploy serve benchmark predict_proba",
}.items():
    for _word in _words.split():
        _SYNONYMS[_word] = (*_SYNONYMS.get(_word, ()), *_meanings)


def find_nearest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the candidate that was probably meant by a word, None if none is near.

    Args:
        word: as it was typed.
        candidates: what the place knows: flags, keys, values or commands.
        cutoff: how alike two spellings must be, from 0 to 1.
    """
    candidates = tuple(candidates)
    found = find_synonym(word, candidates)
    if found or _SYNONYMS.get(_normalize(word)) == ():
        return found
    from difflib import get_close_matches

    plain, by_form = _normalize(word)[:64], {_normalize(c): c for c in candidates}
    if len(plain) < 2:  # too short: it resembles every other short word
        return None
    longer = [form for form in by_form if form.startswith(plain)] if len(plain) > 2 else []
    near = longer if len(longer) == 1 else get_close_matches(plain, by_form, 1, cutoff)
    return by_form[near[0]] if near else None


def find_synonym(word: str, candidates: Iterable[str]) -> str | None:
    """Return the first candidate that is a synonym of a word, by its whole name or its end."""
    candidates = tuple(candidates)
    for meaning in _SYNONYMS.get(_normalize(word), ()):
        for name in (meaning, _get_end(meaning)):
            for candidate in candidates:
                if _normalize(name) in (_normalize(candidate), _normalize(_get_end(candidate))):
                    return candidate
    return None


def _get_end(key: str) -> str:
    return key.rpartition(".")[2]


def _normalize(word: str) -> str:
    return re.sub(r"[-\s]", "_", word.lower().lstrip("-"))
