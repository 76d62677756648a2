"""Imports scikit-learn, an extra: for its digits and its classifiers, and only when they are used.

Keras is kept from importing it (`tensorflow_import`), so that it may be hidden while Keras is
imported in the background.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Literal

from mnistcli.errors import ResourceError
from mnistcli.tensorflow_import import wait_for_loading

BaselineName = Literal["logistic-regression", "random-forest"]
"""Its classifiers that are used here, by `mnistcli.commands.compare`."""

TITLE = "scikit-learn"
INSTALL_HINT = 'install it: python -m pip install "mnistcli[sklearn]"'
_PACKAGE = "sklearn"


def is_installed() -> bool:
    """Tell whether there is one, without importing it."""
    wait_for_loading()
    return importlib.util.find_spec(_PACKAGE) is not None


def check_scikit_learn() -> None:
    """Find out before any work whether it can be used, without importing it; ResourceError."""
    if not is_installed():
        raise ResourceError(TITLE, "not installed", INSTALL_HINT)


def import_scikit_learn(module: str = "") -> ModuleType:
    """Return the package, or one of its modules.

    Args:
        module: `datasets`, for example.

    Raises:
        ResourceError: it is missing or broken.
    """
    check_scikit_learn()
    try:
        return importlib.import_module(f"{_PACKAGE}.{module}" if module else _PACKAGE)
    except ImportError as error:
        raise ResourceError(TITLE, f"cannot be imported: {error}", INSTALL_HINT) from error
