"""What an unquoted word means: YAML 1.2's core schema.

PyYAML's own resolver follows YAML 1.1. Here (https://yaml.org/spec/1.2.2/#103-core-schema) `1e-3`
is a float, `yes`, `on`, `1:30` and `2001-01-01` are text, `0o10` is octal. `010` is 8 in YAML 1.1
and 10 in YAML 1.2, and therefore refused.
"""

from __future__ import annotations

import re

from mnistcli.config.validation_errors import format_value

MAX_DIGITS = 300

_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF_OR_NAN = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class ScalarError(ValueError):
    """A scalar that means nothing certain; its arguments are the mistake and the way out."""


def resolve_scalar(text: str) -> object:
    """Return what an unquoted scalar means in YAML 1.2's core schema.

    Raises:
        ScalarError: the number is ambiguous, or longer than any that a config needs.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > MAX_DIGITS and (_INT.fullmatch(text) or _BASED_INT.fullmatch(text)):
        raise ScalarError(f"a number of {len(text)} digits", "write a smaller one")
    if _INT.fullmatch(text):
        return int(text)
    if _BASED_INT.fullmatch(text):
        return int(text, 0)
    if _LEADING_ZERO.fullmatch(text):
        plain = int(text[:MAX_DIGITS])
        raise ScalarError(
            f"{format_value(text)} is octal in YAML 1.1 and decimal in YAML 1.2",
            f"write {plain} without the leading zero",
        )
    if _INF_OR_NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return float(text) if _FLOAT.fullmatch(text) else text
