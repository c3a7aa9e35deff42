"""Text generated step by step, past keys and values going out of a session and in again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import text_models as models
import torch
from export_case import TORCHSCRIPT, Case, Flat, Port, Positional, export
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

from rekindle import open_session
from rekindle.runtime import Session

pytestmark = [pytest.mark.opencl, pytest.mark.torch]
NEW = 6
Written = tuple[np.ndarray, np.ndarray]
"""Tokens (N, length), and the logits (new, N, words) of those that were written."""
CASES = {c.name: c for c in models.CASES}


def _greedy(session: Session, tokens: np.ndarray, **fixed: np.ndarray) -> Written:
    """`NEW` tokens more, the likeliest one each time; one at a time after the first step."""
    past: Flat = {
        port.name: np.zeros((len(tokens), models.HEADS, 0, models.WIDTH), np.float32)
        for port in models.PAST
    }
    fresh, logits = tokens, []
    for _ in range(NEW):
        feeds = {"input_ids": fresh, **fixed, **past}
        if "attention_mask" in {spec.name for spec in session.inputs}:
            feeds["attention_mask"] = np.ones(tokens.shape, np.int64)
        found = session.run({spec.name: feeds[spec.name] for spec in session.inputs})
        past = {name: found[name.replace("past", "present")] for name in past}
        logits.append(found["logits"][:, -1])
        fresh = logits[-1].argmax(-1)[:, None]
        tokens = np.concatenate([tokens, fresh], axis=1)
    return tokens, np.stack(logits)


def _generated(model: GenerationMixin, **inputs: torch.Tensor | BaseModelOutput) -> Written:
    result = model.generate(
        **inputs, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, num_beams=1,
        eos_token_id=None, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    return result.sequences.numpy(), torch.stack(result.logits).numpy()


def _same(found: Written, expected: Written) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    error = np.abs(found[1] - expected[1]).max() / np.abs(expected[1]).max()
    assert error <= 1e-3, f"{error:.2e}"


def _session(case: Case, module: torch.nn.Module, folder: Path) -> Session:
    path = export(case, module, TORCHSCRIPT, 17, folder / f"{case.name}.onnx")
    return open_session(path, provider="opencl", strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_writes_what_torch_writes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    module = case.network()
    prompt = np.array([[5, 17, 33, 8], [4, 60, 7, 71]])
    expected = _generated(
        module.inner,
        input_ids=torch.from_numpy(prompt),
        attention_mask=torch.ones(prompt.shape, dtype=torch.int64),
    )
    with _session(case, module, tmp_path) as session:
        _same(_greedy(session, prompt), expected)


def test_t5_writes_what_torch_writes(tmp_path: Path) -> None:
    case = CASES["t5"]
    module = case.network()
    source = Port("input_ids", ("N", "S"), 90)
    encoder = Case(
        "t5-encoder", lambda: module, (source,), ({"N": 2, "S": 6},), outputs=("encoded",)
    )
    encode = Positional(module.inner.encoder, lambda m, ids: m(ids).last_hidden_state)
    ids = encoder.feeds({"N": 2, "S": 7})["input_ids"]
    expected = _generated(module.inner, input_ids=torch.from_numpy(ids))
    with _session(encoder, encode, tmp_path) as session:
        encoded = session.run({"input_ids": ids})["encoded"]
    with _session(case, module, tmp_path) as session:
        found = _greedy(session, np.zeros((2, 1), np.int64), encoded=encoded)
    _same(found, expected)


@pytest.mark.slow
def test_whisper_writes_what_torch_writes(tmp_path: Path) -> None:
    case = CASES["whisper"]
    module = case.network()
    mel = np.random.default_rng(0).standard_normal((2, 8, 40), np.float32)
    encode = Positional(module.inner.model.encoder, lambda m, x: m(x).last_hidden_state)
    encoder = Case(
        "whisper-encoder", lambda: module, (Port("mel", ("N", 8, 40)),), ({"N": 2},),
        outputs=("encoded",),
    )  # fmt: skip
    with _session(encoder, encode, tmp_path) as session:
        encoded = session.run({"mel": mel})["encoded"]
    start = np.ones((2, 1), np.int64)
    expected = _generated(
        module.inner,
        encoder_outputs=BaseModelOutput(encode(torch.from_numpy(mel)).detach()),
        decoder_input_ids=torch.from_numpy(start),
    )
    with _session(case, module, tmp_path) as session:
        found = _greedy(session, start, encoded=encoded)
    _same(found, expected)
