"""Text encoders, decoders with a cache and encoder-decoders of `transformers`, small."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf
from export_case import DYNAMO, TORCHSCRIPT, Case, Port, Positional, fields
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

BOTH = ((TORCHSCRIPT, 17), (DYNAMO, 18))
NEWER_FIRST = ((DYNAMO, 22), (TORCHSCRIPT, 15))
SIZES = ({"N": 2, "T": 12}, {"N": 1, "T": 7})
IDS = Port("input_ids", ("N", "T"), 90)
MASK = Port("attention_mask", ("N", "T"), 2)
HEADS, WIDTH, LAYERS = 2, 16, 2
_SMALL = {
    "vocab_size": 90, "hidden_size": 2 * WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "intermediate_size": 48, "max_position_embeddings": 40,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def _encoder(model: torch.nn.Module) -> Positional:
    return fields(model, ("input_ids", "attention_mask"), ("last_hidden_state",))


def bert() -> Positional:
    return _encoder(tf.BertModel(tf.BertConfig(**_SMALL)))


def distilbert() -> Positional:
    config = tf.DistilBertConfig(
        vocab_size=90, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=40
    )
    return _encoder(tf.DistilBertModel(config))


def roberta() -> Positional:
    return _encoder(tf.RobertaModel(tf.RobertaConfig(**_SMALL)))


def clip_text() -> Positional:
    return _encoder(tf.CLIPTextModel(tf.CLIPTextConfig(**_SMALL)))


def t5_encoder() -> Positional:
    return _encoder(tf.T5EncoderModel(tf.T5Config(**T5)))


T5 = {
    "vocab_size": 90, "d_model": 2 * WIDTH, "d_kv": WIDTH, "num_heads": HEADS, "d_ff": 48,
    "num_layers": LAYERS, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
WHISPER = {
    "vocab_size": 90, "num_mel_bins": 8, "d_model": 2 * WIDTH, "encoder_layers": LAYERS,
    "decoder_layers": LAYERS, "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_source_positions": 20,
    "max_target_positions": 40, "decoder_start_token_id": 1, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip


def _cache(flat: tuple[torch.Tensor, ...]) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(len(flat) // 2):
        cache.update(flat[2 * layer], flat[2 * layer + 1], layer)
    return cache


def _flat(cache: DynamicCache) -> tuple[torch.Tensor, ...]:
    return tuple(t for layer in cache.layers for t in (layer.keys, layer.values))


def _decode(model: torch.nn.Module, ids: Any, mask: Any, *past: torch.Tensor) -> tuple[Any, ...]:
    result = model(input_ids=ids, attention_mask=mask, past_key_values=_cache(past), use_cache=True)
    return (result.logits, *_flat(result.past_key_values))


def gpt2() -> Positional:
    config = tf.GPT2Config(
        vocab_size=90, n_embd=2 * WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=40,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return Positional(tf.GPT2LMHeadModel(config), _decode)


def llama() -> Positional:
    return Positional(tf.LlamaForCausalLM(tf.LlamaConfig(**_SMALL)), _decode)


def _seq2seq_step(
    model: torch.nn.Module, ids: Any, encoded: Any, *past: torch.Tensor
) -> tuple[Any, ...]:
    """One decoder step; the keys and values of the encoder's output are made anew each time."""
    cache = EncoderDecoderCache(_cache(past), DynamicCache())
    result = model(
        decoder_input_ids=ids, encoder_outputs=(encoded,), past_key_values=cache, use_cache=True
    )
    return (result.logits, *_flat(result.past_key_values.self_attention_cache))


def t5() -> Positional:
    return Positional(tf.T5ForConditionalGeneration(tf.T5Config(**T5)), _seq2seq_step)


def whisper_encoder() -> Positional:
    model = tf.WhisperModel(tf.WhisperConfig(**WHISPER)).encoder
    return Positional(model, lambda m, mel: m(mel).last_hidden_state)


def whisper() -> Positional:
    model = tf.WhisperForConditionalGeneration(tf.WhisperConfig(**WHISPER))
    return Positional(model, _seq2seq_step)


PAST = tuple(
    Port(f"past.{layer}.{kind}", ("N", HEADS, "P", WIDTH))
    for layer in range(LAYERS)
    for kind in ("key", "value")
)
_PRESENT = tuple(p.name.replace("past", "present") for p in PAST)
_STEPS = ({"N": 2, "T": 3, "P": 5, "A": 8}, {"N": 1, "T": 1, "P": 8, "A": 9})
_DECODER = (IDS, Port("attention_mask", ("N", "A"), 2), *PAST)
_SEQ2SEQ = (IDS, Port("encoded", ("N", "S", 2 * WIDTH)), *PAST)
_SEQ2SEQ_SIZES = ({"N": 2, "T": 3, "P": 5, "S": 6}, {"N": 1, "T": 1, "P": 8, "S": 9})

CASES = (
    Case("bert", bert, (IDS, MASK), SIZES,
         ((TORCHSCRIPT, 14), (TORCHSCRIPT, 17), (DYNAMO, 18), (DYNAMO, 25)),
         quick=((TORCHSCRIPT, 17),)),
    Case("distilbert", distilbert, (IDS, MASK), SIZES, NEWER_FIRST),
    Case("roberta", roberta, (IDS, MASK), SIZES, BOTH),
    Case("clip_text", clip_text, (IDS, MASK), SIZES, NEWER_FIRST),
    Case("t5_encoder", t5_encoder, (IDS, MASK), SIZES, BOTH),
    Case("gpt2", gpt2, _DECODER, _STEPS, NEWER_FIRST, ("logits", *_PRESENT)),
    Case("llama", llama, _DECODER, _STEPS, BOTH, ("logits", *_PRESENT)),
    Case("t5", t5, _SEQ2SEQ, _SEQ2SEQ_SIZES, NEWER_FIRST, ("logits", *_PRESENT)),
    Case("whisper_encoder", whisper_encoder, (Port("mel", ("N", 8, 40)),),
         ({"N": 2}, {"N": 1}), BOTH),
    Case("whisper", whisper, _SEQ2SEQ, _SEQ2SEQ_SIZES, BOTH, ("logits", *_PRESENT)),
)  # fmt: skip
