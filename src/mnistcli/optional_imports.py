"""Checks for, and imports, packages that only an extra installs."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from mnistcli.errors import ResourceError
from mnistcli.tensorflow_import import wait_for_loading

SCIKIT_LEARN = "scikit-learn"


def require(
    package: str, *, extra: str, title: str = "", what: str = "not installed", hint: str = ""
) -> None:
    """Check that a package is installed, without importing it.

    Args:
        package: the name that `import` takes.
        extra: of mnistcli, which installs the package.
        title: what messages call the package; its name by default.
        what: the message where it is missing.
        hint: how to install it; by default with the extra.

    Raises:
        ResourceError: it is not installed.
    """
    if _is_installed(package):
        return
    wait_for_loading()  # some packages are hidden while Keras is imported in the background
    if not _is_installed(package):
        raise ResourceError(title or package, what, hint or _hint(extra))


def import_optional(module: str, *, extra: str, title: str = "", hint: str = "") -> ModuleType:
    """Import a package that is an extra, or one of its modules.

    Args:
        module: its full name.
        extra: as for `require`.
        title: likewise.
        hint: likewise.

    Raises:
        ResourceError: the package is missing or broken.
    """
    package = module.partition(".")[0]
    wait_for_loading()
    require(package, extra=extra, title=title, hint=hint)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"cannot be imported: {error}"
        raise ResourceError(title or package, what, hint or _hint(extra)) from error


def require_scikit_learn() -> None:
    """Check that scikit-learn is installed, without importing it; ResourceError."""
    require("sklearn", extra="sklearn", title=SCIKIT_LEARN)


def import_scikit_learn(module: str = "") -> ModuleType:
    """Import scikit-learn, or one of its modules.

    Args:
        module: `datasets`, for example.

    Raises:
        ResourceError: it is missing or broken.
    """
    name = f"sklearn.{module}" if module else "sklearn"
    return import_optional(name, extra="sklearn", title=SCIKIT_LEARN)


def _is_installed(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # sys.modules has something else of that name
        return False
    # A folder of that name in the working directory is a package without a file.
    return spec is not None and spec.origin is not None


def _hint(extra: str) -> str:
    return f'install it: python -m pip install "mnistcli[{extra}]"'
