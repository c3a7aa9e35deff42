"""Classifiers, detectors and segmenters of `transformers`, small."""

from __future__ import annotations

import transformers as tf
from export_case import DYNAMO, TORCHSCRIPT, Case, Port, fields, first

BATCH = (Port("image", ("N", 3, 64, 64)),)
ANY = (Port("image", ("N", 3, "H", "W")),)
BATCHES = ({"N": 2}, {"N": 1})
AREAS = ({"N": 2, "H": 64, "W": 64}, {"N": 1, "H": 96, "W": 64})
BOTH = ((TORCHSCRIPT, 17), (DYNAMO, 18))
NEWER_FIRST = ((DYNAMO, 20), (TORCHSCRIPT, 16))

_RESNET = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2], "num_labels": 10}
_VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "image_size": 64, "patch_size": 16, "num_labels": 10,
}  # fmt: skip
_SWIN = {
    "image_size": 64, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4,
    "num_labels": 10,
}  # fmt: skip


def resnet(layer: str) -> object:
    return first(tf.ResNetForImageClassification(tf.ResNetConfig(layer_type=layer, **_RESNET)))


def mobilenet_v2() -> object:
    config = tf.MobileNetV2Config(
        depth_multiplier=0.25, min_depth=4, image_size=64, num_labels=10, tf_padding=True
    )
    return first(tf.MobileNetV2ForImageClassification(config))


def convnext() -> object:
    config = tf.ConvNextConfig(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2, num_labels=10)
    return first(tf.ConvNextForImageClassification(config))


def regnet() -> object:
    config = tf.RegNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], groups_width=8, num_labels=10,
        layer_type="y",
    )  # fmt: skip
    return first(tf.RegNetForImageClassification(config))


def efficientnet() -> object:
    config = tf.EfficientNetConfig(
        image_size=64, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320, num_labels=10
    )
    return first(tf.EfficientNetForImageClassification(config))


def vit() -> object:
    return first(tf.ViTForImageClassification(tf.ViTConfig(**_VIT)))


def deit() -> object:
    return first(tf.DeiTForImageClassificationWithTeacher(tf.DeiTConfig(**_VIT)))


def dinov2() -> object:
    config = tf.Dinov2Config(**(_VIT | {"mlp_ratio": 2}))
    return first(tf.Dinov2ForImageClassification(config))


def swin() -> object:
    return first(tf.SwinForImageClassification(tf.SwinConfig(**_SWIN)))


def _conv_backbone() -> object:
    return tf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32, 32], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip


def detr() -> object:
    config = tf.DetrConfig(
        use_timm_backbone=False, backbone_config=_conv_backbone(), backbone=None, d_model=32,
        encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=12, num_labels=5,
    )  # fmt: skip
    return fields(tf.DetrForObjectDetection(config), ("pixel_values",), ("logits", "pred_boxes"))


def yolos() -> object:
    config = tf.YolosConfig(
        **(_VIT | {"image_size": [64, 64], "num_labels": 5}), num_detection_tokens=7
    )
    return fields(tf.YolosForObjectDetection(config), ("pixel_values",), ("logits", "pred_boxes"))


def segformer() -> object:
    config = tf.SegformerConfig(
        hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 2],
        decoder_hidden_size=32, num_labels=5,
    )  # fmt: skip
    return first(tf.SegformerForSemanticSegmentation(config))


def upernet() -> object:
    backbone = tf.ConvNextConfig(
        hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.UperNetConfig(
        backbone_config=backbone, hidden_size=16, pool_scales=[1, 2], num_labels=5,
        auxiliary_in_channels=16, use_auxiliary_head=False,
    )  # fmt: skip
    return first(tf.UperNetForSemanticSegmentation(config))


def mask2former() -> object:
    backbone = tf.SwinConfig(
        **(_SWIN | {"depths": [1, 1, 1, 1], "num_heads": [2] * 4, "embed_dim": 8}),
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = tf.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=32, dim_feedforward=32, encoder_layers=1, decoder_layers=2,
        num_attention_heads=2, num_queries=6, num_labels=5,
    )  # fmt: skip
    return fields(
        tf.Mask2FormerForUniversalSegmentation(config),
        ("pixel_values",),
        ("class_queries_logits", "masks_queries_logits"),
    )


def depth_anything() -> object:
    backbone = tf.Dinov2Config(
        **(_VIT | {"mlp_ratio": 2, "num_hidden_layers": 4}),
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = tf.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16, head_hidden_size=8, patch_size=16,
    )  # fmt: skip
    return first(tf.DepthAnythingForDepthEstimation(config))


TWO = ("logits", "boxes")
CASES = (
    Case(
        "resnet-basic", lambda: resnet("basic"), ANY, AREAS,
        ((TORCHSCRIPT, 11), (TORCHSCRIPT, 13), (TORCHSCRIPT, 21), (DYNAMO, 18), (DYNAMO, 26)),
        quick=((TORCHSCRIPT, 11), (TORCHSCRIPT, 21), (DYNAMO, 26)),
    ),
    Case("resnet-bottleneck", lambda: resnet("bottleneck"), ANY, AREAS, ((TORCHSCRIPT, 12),)),
    Case("mobilenet_v2", mobilenet_v2, BATCH, BATCHES, BOTH),
    Case("convnext", convnext, ANY, AREAS, NEWER_FIRST),
    Case("regnet", regnet, ANY, AREAS, NEWER_FIRST),
    Case("efficientnet", efficientnet, BATCH, BATCHES, NEWER_FIRST),
    Case("vit", vit, BATCH, BATCHES,
         ((TORCHSCRIPT, 14), (TORCHSCRIPT, 17), (DYNAMO, 18), (DYNAMO, 25)),
         quick=((TORCHSCRIPT, 17),)),
    Case("deit", deit, BATCH, BATCHES, BOTH),
    Case("dinov2", dinov2, BATCH, BATCHES, BOTH),
    Case("swin", swin, BATCH, BATCHES, BOTH),
    Case("detr", detr, ANY, AREAS, BOTH, TWO),
    Case("yolos", yolos, BATCH, BATCHES, NEWER_FIRST, TWO),
    Case("segformer", segformer, ANY, AREAS, BOTH),
    Case("upernet", upernet, BATCH, BATCHES, BOTH),
    Case("mask2former", mask2former, BATCH, BATCHES,
         ((TORCHSCRIPT, 17), (DYNAMO, 20)), ("classes", "masks"), rare=True),
    Case("depth_anything", depth_anything, BATCH, BATCHES, BOTH),
)  # fmt: skip
