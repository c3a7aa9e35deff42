"""Diffusion, sound, recurrent and volumetric networks, small."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers as tf
from export_case import DYNAMO, TORCHSCRIPT, Case, Port, Positional, first
from zoo_networks import ResNet3d, SpeechLSTM

BOTH = ((TORCHSCRIPT, 17), (DYNAMO, 18))


def unet() -> Positional:
    model = diffusers.UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16,
        attention_head_dim=8, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return Positional(model, lambda m, *x: m(*x, return_dict=False)[0])


def _vae() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=4, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def vae_decoder() -> Positional:
    return Positional(_vae(), lambda m, latent: m.decode(latent, return_dict=False)[0])


def vae_encoder() -> Positional:
    return Positional(_vae(), lambda m, image: m.encode(image).latent_dist.mean)


def wav2vec2() -> Positional:
    config = tf.Wav2Vec2Config(
        vocab_size=20, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=48, conv_dim=(16, 16), conv_stride=(5, 2), conv_kernel=(10, 3),
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    return first(tf.Wav2Vec2ForCTC(config))


def bilstm() -> torch.nn.Module:
    return Positional(SpeechLSTM(8, 12, 5), lambda m, x: m(x))


def conv3d() -> torch.nn.Module:
    return Positional(ResNet3d((8, 16), 10), lambda m, x: m(x))


_AREAS = ({"N": 1, "H": 16, "W": 16}, {"N": 2, "H": 16, "W": 24})
_LATENT = Port("latent", ("N", 4, "H", "W"))
CASES = (
    Case("unet", unet, (_LATENT, Port("step", ("N",), 1000), Port("text", ("N", "S", 16))),
         ({"N": 1, "H": 16, "W": 16, "S": 7}, {"N": 2, "H": 16, "W": 24, "S": 5}), BOTH),
    Case("vae_decoder", vae_decoder, (_LATENT,), _AREAS, BOTH),
    Case("vae_encoder", vae_encoder, (Port("image", ("N", 3, "H", "W")),), _AREAS, BOTH),
    Case("wav2vec2", wav2vec2, (Port("sound", ("N", "samples")),),
         ({"N": 2, "samples": 800}, {"N": 1, "samples": 1003}), BOTH),
    Case("bilstm", bilstm, (Port("mel", ("N", "frames", 8)),),
         ({"N": 2, "frames": 9}, {"N": 1, "frames": 5}),
         ((TORCHSCRIPT, 11), (TORCHSCRIPT, 17), (DYNAMO, 18)), quick=((TORCHSCRIPT, 17),)),
    Case("conv3d", conv3d, (Port("clip", ("N", 3, "T", 16, 16)),),
         ({"N": 2, "T": 8}, {"N": 1, "T": 6}), BOTH),
)  # fmt: skip
