"""Model cards: read, written, read again; every wrong key is named with what was expected."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekindle._errors import CardError, NotFoundError, RekindleError
from rekindle._types import DType, TensorSpec
from rekindle.hub.card import (
    CardFile,
    CardTensor,
    Measured,
    ModelCard,
    Preprocess,
    dumps,
    load_card,
    parse_card,
)

CARD = """
schema_version = 1
name = "animals"
version = "1"
task = "classify"
licence = "MIT"
source = "trained here"
labels = ["cat", "dog", "frog"]
[[files]]
path = "model.onnx"
sha256 = "{digest}"
bytes = 123
[[inputs]]
name = "image"
dtype = "float32"
shape = ["N", 3, 32, 48]
layout = "NCHW"
[[outputs]]
name = "logits"
dtype = "float32"
shape = ["N", 3]
[preprocess]
color = "BGR"
resize = "shortest"
size = [40, 60]
crop = [32, 48]
interpolation = "bicubic"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[decode]
kind = "logits"
[[measured]]
metric = "top-1 accuracy"
dataset = "CIFAR-10"
value = 0.89
interval = [0.88, 0.9]
""".format(digest="0a" * 32)

EXPECTED = ModelCard(
    name="animals",
    version="1",
    task="classify",
    licence="MIT",
    source="trained here",
    labels=("cat", "dog", "frog"),
    files=(CardFile("model.onnx", "0a" * 32, 123),),
    inputs=(CardTensor(TensorSpec("image", DType.FLOAT32, ("N", 3, 32, 48)), "NCHW"),),
    outputs=(CardTensor(TensorSpec("logits", DType.FLOAT32, ("N", 3))),),
    preprocess=Preprocess(
        "BGR",
        "shortest",
        (40, 60),
        (32, 48),
        "bicubic",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    decode="logits",
    measured=(Measured("top-1 accuracy", "CIFAR-10", 0.89, (0.88, 0.9)),),
)


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD, encoding="utf-8")
    assert load_card(tmp_path / "card.toml") == EXPECTED


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert parse_card(dumps(EXPECTED), folder=tmp_path) == EXPECTED
    assert tomllib.loads(dumps(EXPECTED)) == tomllib.loads(CARD)


def test_a_card_by_hand_may_be_short(tmp_path: Path) -> None:
    text = "\n".join(
        [
            'schema_version = 1\nname = "m"\nversion = "2.1"\ntask = "classify"',
            'licence = "CC0"\nsource = "me"\nlabels = ["a", "b"]',
            '[preprocess]\nresize = "stretch"\nsize = 8\nmean = [0, 0, 0]\nstd = [1, 1, 1]',
        ]
    )
    card = parse_card(text, folder=tmp_path)
    assert card.preprocess == Preprocess(
        "RGB", "stretch", (8, 8), (8, 8), "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    )
    assert card.files == card.inputs == card.measured == ()
    assert card.decode is None


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1
).filter(str.strip)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@given(
    labels=st.lists(TEXT, min_size=3, max_size=3),
    source=TEXT,
    value=NUMBER,
    mean=st.tuples(NUMBER, NUMBER, NUMBER),
)
def test_any_text_and_number_survives(
    labels: list[str], source: str, value: float, mean: tuple[float, float, float]
) -> None:
    assert EXPECTED.preprocess is not None
    card = replace(
        EXPECTED,
        labels=tuple(labels),
        source=source,
        measured=(Measured("m", "d", value),),
        preprocess=replace(EXPECTED.preprocess, mean=mean),
    )
    assert parse_card(dumps(card), folder=Path()) == card


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema_version = 1\n", "", r"c\.toml: schema_version is missing"),
        ("schema_version = 1", "schema_version = 2", r"schema_version = 2 .*expected 1 in this"),
        ('task = "classify"', "task = 3", r"task = 3 cannot be used \(expected a non-empty text"),
        ('"animals"', '"../animals"', r"name = '\.\./animals' cannot be used"),
        ('version = "1"', 'version = "a b"', r"version = 'a b'"),
        ('licence = "MIT"', 'license = "MIT"', "licence is missing"),
        ("[decode]", "[decoding]", r"unknown key 'decoding' \(did you mean decode\?"),
        ('color = "BGR"', 'colour = "BGR"', r"preprocess: unknown key 'colour' .*mean color\?"),
        ('kind = "logits"', 'kind = "scores"', r'decode: kind = \'scores\' .*"logits" or "prob'),
        ('"shortest"', '"crop"', r"preprocess: resize = 'crop' .*shortest"),
        ("size = [40, 60]", "size = [40]", r"preprocess: size = \[40\] .*\[height, width\]"),
        ("size = [40, 60]", "size = 0", r"preprocess: size = 0"),
        ("size = [40, 60]", "size = true", r"preprocess: size = True"),
        ("crop = [32, 48]", "crop = 50", r"crop = \(50, 50\) .*at most size, \(40, 60\)"),
        ("crop = [32, 48]\n", "", r"makes pictures of \(40, 60\), but the input is image: float32"),
        ("0.229,", "0,", r"std = \(0.0, 0.224, 0.225\) .*above 0"),
        ("mean = [0.485, ", "mean = [", r"mean = \[0.456, 0.406\] .*three numbers"),
        ("mean = [0.485", "mean = [nan", r"mean = \[nan"),
        ('"frog"', '"a\\u001bb"', r"labels = 'a\\x1bb' .*without control characters"),
        ('"dog", "frog"', '"dog"', r"2 labels, but the output is logits: float32\[N, 3\]"),
        ('"cat", "dog", "frog"', "", r"labels = \[\] cannot be used"),
        ("value = 0.89", "value = inf", r"measured\[0\]: value = inf"),
        ("[0.88, 0.9]", "[0.9, 0.95]", r"interval = \[0.9, 0.95\] .*around value"),
        ('"float32"', '"float31"', r"inputs\[0\]: dtype = \'float31\'"),
        ('["N", 3, 32, 48]', '["N", 3, -1, 48]', r"inputs\[0\]: shape = .*above 0"),
        ('["N", 3, 32, 48]', '["N", 3, 32]', r"layout = 'NCHW' .*has not 4 dimensions"),
        ("bytes = 123", "bytes = -1", r"files\[0\]: bytes = -1"),
        ("0a0a", "0A0A", r"sha256 = .*64 lower-case"),
        ('path = "model.onnx"', 'path = "../model.onnx"', r"path = '\.\./model.onnx' .*inside"),
        ('path = "model.onnx"', 'path = "/etc/passwd"', r"path = '/etc/passwd'"),
        ('path = "model.onnx"', 'path = "C:\\\\m.onnx"', r"path = 'C:"),
        ("[decode]", "[[decode]]", r"decode = .*expected a table \[decode\]"),
        ("[[files]]", "[files]", r"files = .*expected tables \[\[files\]\]"),
        ("schema_version = 1", "schema_version = = 1", r"c\.toml is not TOML: .*line 2"),
        ("labels = ", 'labels_file = "l.txt"\nlabels = ', "labels or labels_file, not both"),
    ],
)
def test_wrong_cards_name_key_given_and_expected(old: str, new: str, message: str) -> None:
    assert old in CARD
    with pytest.raises(CardError, match=message):
        parse_card(CARD.replace(old, new, 1), folder=Path(), where="c.toml")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\ndog\n\nfrog\n", ("cat", "dog", "frog")),
        ("  0  cat\n  1  dog, hound\n  2 frog", ("cat", "dog, hound", "frog")),
        ("2 frog\n0 cat\n1 dog", ("cat", "dog", "frog")),
        ("3 musketeers\n2 towers\n1 ring", ("3 musketeers", "2 towers", "1 ring")),
        ("\ufeff0 cat\r\n1 dog\r\n2 frog\r\n", ("cat", "dog", "frog")),
    ],
)
def test_label_files(tmp_path: Path, text: str, labels: tuple[str, ...]) -> None:
    (tmp_path / "labels.txt").write_bytes(text.encode())
    start, end = CARD.index("labels ="), CARD.index("[[files]]")
    (tmp_path / "c.toml").write_text(
        CARD[:start] + 'labels_file = "labels.txt"\n' + CARD[end:], encoding="utf-8"
    )
    card = load_card(tmp_path / "c.toml")
    assert card.labels == labels
    assert card.labels_file == "labels.txt"
    assert parse_card(dumps(card), folder=tmp_path) == card


@pytest.mark.parametrize(
    ("labels_file", "content", "message"),
    [
        ("../labels.txt", b"cat", "inside the card's folder"),
        ("absent.txt", None, "cannot be read: .*No such file"),
        ("labels.txt", b"\xff\xfe", "cannot be read: .*decode"),
        ("labels.txt", b"\n\n", "holds no labels"),
        ("labels.txt", b"a\x1b[31m", "holds control characters"),
    ],
)
def test_bad_label_files(
    tmp_path: Path, labels_file: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    text = CARD.replace('labels = ["cat", "dog", "frog"]', f'labels_file = "{labels_file}"')
    with pytest.raises(CardError, match=message):
        parse_card(text, folder=tmp_path)


def test_files_that_are_no_card(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model card"):
        load_card(tmp_path / "card.toml")
    with pytest.raises(CardError, match="cannot be read as a model card"):
        load_card(tmp_path)
    (tmp_path / "card.toml").write_bytes(b"\xff\x00")
    with pytest.raises(CardError, match="UTF-8 TOML file"):
        load_card(tmp_path / "card.toml")


@given(st.integers(0, len(CARD) - 1), st.text(max_size=4), st.integers(0, 12))
def test_mutated_cards_raise_nothing_but_our_errors(at: int, insert: str, cut: int) -> None:
    try:
        card = parse_card(CARD[:at] + insert + CARD[at + cut :], folder=Path())
    except RekindleError:
        return
    assert parse_card(dumps(card), folder=Path()) == card
