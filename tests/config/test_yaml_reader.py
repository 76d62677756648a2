"""Reading YAML by the 1.2 core schema, with the position of every key and value."""

from __future__ import annotations

import pytest

from mnistcli.config.yaml_reader import Mark, parse_yaml, resolve_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100_000.0),
        ("1e+2", 100.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.25", -0.25),
        ("01.5", 1.5),
        ("+3", 3),
        ("0", 0),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("1e400", float("inf")),
        ("true", True),
        ("False", False),
        ("~", None),
        ("Null", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("tRUE", "tRUE"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2001-01-01", "2001-01-01"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        (".", "."),
        ("٣", "٣"),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    resolved = resolve_scalar(text)
    assert (type(resolved), resolved) == (type(value), value)


def test_quoted_scalars_are_text() -> None:
    assert parse_yaml("""{a: '1', b: "true", c: 'null'}""", "c.yaml").value == {
        "a": "1",
        "b": "true",
        "c": "null",
    }


def test_keys_and_values_know_their_places() -> None:
    document = parse_yaml("model:\n  type: mlp\n  hidden: [64, {units: 32}]\n", "c.yaml")
    assert document.find_mark(("model", "type"), is_key=True) == Mark(2, 3)
    assert document.find_mark(("model", "type")) == Mark(2, 9)
    assert document.find_mark(("model", "hidden", 1, "units")) == Mark(3, 24)
    assert document.find_mark(("model", "hidden", 1, "name")) == Mark(3, 16)
    assert document.find_mark(("training",)) is None


def test_an_alias_repeats_its_anchor() -> None:
    assert parse_yaml("{a: &x [1, 2], b: *x}", "c.yaml").value == {"a": [1, 2], "b": [1, 2]}


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert parse_yaml(b"\xef\xbb\xbfa: 1", "c.yaml").value == {"a": 1}


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "---\n...\n"])
def test_an_empty_document_is_null(text: str) -> None:
    assert parse_yaml(text, "c.yaml").value is None
