"""Recipes of com.microsoft operators on floats: activations, normalization, attention, states, experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from webdnn_conformance.suites.recipes import FLOAT, FLOAT16, INT32, Draw, Recipe

__all__ = ["FAMILIES"]


def elementwise(draw: Draw) -> Iterator[Recipe]:
    x = draw.f32(2, 3, 8)
    yield Recipe("gelu", "Gelu", [x])
    yield Recipe("quick_gelu", "QuickGelu", [x], {"alpha": 1.2})
    yield Recipe("fast_gelu", "FastGelu", [x])
    yield Recipe("fast_gelu/bias", "FastGelu", [x, draw.f32(8)])
    yield Recipe("bias_gelu", "BiasGelu", [x, draw.f32(8)])
    yield Recipe("scaled_silu", "ScaledSiLU", [x], {"alpha": 1.3})
    yield Recipe("bias_add", "BiasAdd", [x, draw.f32(8), draw.f32(2, 3, 8)], judged=False)
    yield Recipe("bias_split_gelu", "BiasSplitGelu", [x, draw.f32(8)], judged=False)
    for inner, shape in ((1, (1, 3, 8)), (0, (2, 1, 8))):
        attributes = {"axis": 2, "is_inner_broadcast": inner}
        yield Recipe(f"bias_softmax/{inner}", "BiasSoftmax", [x, draw.f32(*shape)], attributes, judged=False)


def normalizations(draw: Draw) -> Iterator[Recipe]:
    x = draw.f32(2, 3, 8)
    for shape in ((2, 3, 8), (1, 3, 8), (3, 8)):
        inputs: list[Any] = [x, draw.f32(*shape), draw.f32(8), draw.f32(8), draw.f32(8)]
        outputs: tuple[int, ...] = (FLOAT, 0, 0, FLOAT)
        yield Recipe(f"skip_layer/{len(shape)}{shape[0]}", "SkipLayerNormalization", inputs, {"epsilon": 1e-5}, outputs)
    yield Recipe("skip_layer/no_beta", "SkipLayerNormalization", [x, x, draw.f32(8)])
    inputs = [x, draw.f32(2, 3, 8), draw.f32(8), draw.f32(8)]
    yield Recipe("skip_simplified", "SkipSimplifiedLayerNormalization", inputs, {}, (FLOAT, 0, 0, FLOAT))
    yield Recipe("simplified", "SimplifiedLayerNormalization", [x, draw.f32(8)], {}, domain="")
    ids = draw.integers(0, 5, (2, 3)).astype(np.int32)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    tables = [draw.f32(10, 8), draw.f32(5, 8), draw.f32(2, 8), draw.f32(8), draw.f32(8)]
    outputs = (FLOAT, INT32, FLOAT)
    yield Recipe("embed", "EmbedLayerNormalization", [ids, ids % 2, *tables, mask], {}, outputs)
    inputs = [ids, None, tables[0], tables[1], None, *tables[3:], None, ids]
    yield Recipe("embed/positions", "EmbedLayerNormalization", inputs, {}, outputs)
    for activation in ("silu", "sigmoid"):
        yield Recipe(
            f"gated_rms/{activation}", "GatedRMSNorm", [x, draw.f32(4), draw.f32(2, 3, 8)], {"activation": activation}
        )
    outputs = (FLOAT, FLOAT, FLOAT, FLOAT)
    for op, count in (("SkipLayerNormalization", 3), ("SkipSimplifiedLayerNormalization", 2)):
        inputs = [x, draw.f32(2, 3, 8), *(draw.f32(8) for _ in range(count))]
        constant = tuple(range(2, 2 + count))
        yield Recipe(f"{op}/all", op, inputs, {}, outputs, constant=constant, judged=False)
        halves = [value.astype(np.float16) for value in inputs]
        kinds = (FLOAT16, 0, 0, FLOAT16)
        yield Recipe(f"{op}/half", op, halves, {}, kinds, constant=constant, tolerance=1e-2)
    image = draw.f32(2, 4, 5, 6)
    for swish in (0, 1):
        attributes: dict[str, Any] = {"groups": 3, "activation": swish, "channels_last": 1}
        yield Recipe(f"group_norm/{swish}", "GroupNorm", [image, draw.f32(6), draw.f32(6)], attributes, judged=False)
        inputs = [image, draw.f32(6), draw.f32(6), draw.f32(2, 4, 5, 6), draw.f32(6)]
        yield Recipe(f"skip_group_norm/{swish}", "SkipGroupNorm", inputs, attributes, (FLOAT, FLOAT), judged=False)
    yield Recipe("branchwise_rms", "BranchwiseRMSNorm", [x, draw.f32(8)], {"num_branches": 2})


def products(draw: Draw) -> Iterator[Recipe]:
    for flags in range(4):
        transposed, batch = flags & 1, flags >> 1
        a = {0: (2, 3, 4, 5), 1: (2, 3, 5, 4), 2: (4, 2, 3, 5), 3: (5, 2, 3, 4)}[flags]
        b = {0: (2, 3, 5, 6), 1: (2, 3, 6, 5), 2: (5, 2, 3, 6), 3: (6, 2, 3, 5)}[flags]
        attributes: dict[str, Any] = {
            "transA": transposed,
            "transB": transposed,
            "transBatchA": batch,
            "transBatchB": batch,
        }
        yield Recipe(f"fused_matmul/{flags}", "FusedMatMul", [draw.f32(*a), draw.f32(*b)], {"alpha": 0.5, **attributes})
    yield Recipe("transpose_matmul", "TransposeMatMul", [draw.f32(4, 3), draw.f32(5, 3)], {"transB": 1})
    for activation, parameters in (
        ("Relu", []),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.2, 0.3]),
        ("HardSigmoid", [0.3, 0.4]),
    ):
        attributes = {"activation": activation, "pads": [1, 1, 1, 1], "group": 2}
        if parameters:
            attributes["activation_params"] = parameters
        inputs: list[Any] = [draw.f32(1, 4, 5, 5), draw.f32(4, 2, 3, 3), draw.f32(4), draw.f32(1, 4, 5, 5)]
        yield Recipe(f"fused_conv/{activation}", "FusedConv", inputs, attributes)
    inputs = [draw.f32(1, 5, 5, 4), draw.f32(6, 2, 3, 3), draw.f32(6), draw.f32(1, 5, 5, 6)]
    attributes = {"activation": "Relu", "pads": [1, 1, 1, 1], "group": 2}
    yield Recipe("nhwc_conv", "NhwcFusedConv", inputs, attributes, judged=False)
    for activation in ("Tanh", "Sigmoid", "Elu", "Softplus"):
        attributes = {"activation": activation} | ({"activation_alpha": 0.7} if activation == "Elu" else {})
        yield Recipe(f"fused_gemm/{activation}", "FusedGemm", [draw.f32(3, 4), draw.f32(4, 5), draw.f32(5)], attributes)


def blocks(draw: Draw) -> Iterator[Recipe]:
    for bits in (2, 4, 8):
        for K, size in ((64, 32), (40, 16)):
            count = -(-K // size)
            weights, scales = draw.u8(5, count, size * bits // 8), draw.f32(5, count)
            points = {"default": None, "packed": draw.u8(5, -(-count * bits // 8))}
            if bits < 8:
                points["float"] = draw.f32(5, count) + np.float32(1 << (bits - 1))
            for name, zero in points.items():
                inputs: list[Any] = [draw.f32(2, 3, K), weights, scales, zero, None, draw.f32(5)]
                attributes: dict[str, Any] = {"K": K, "N": 5, "bits": bits, "block_size": size}
                yield Recipe(f"matmul_nbits/{bits}/{K}/{name}", "MatMulNBits", inputs, attributes, tolerance=5e-3)
        inputs = [draw.u8(7, 8 * bits), np.array([[1, -1], [6, 9]]), draw.f32(7, 4), None]
        attributes = {"bits": bits, "block_size": 16}
        yield Recipe(f"gather_block/{bits}/default", "GatherBlockQuantized", inputs, attributes)
        inputs = [*inputs[:3], draw.u8(7, max(bits // 2, 1))]
        yield Recipe(f"gather_block/{bits}/packed", "GatherBlockQuantized", inputs, attributes)
    for kind in (0, 1):
        attributes = {"K": 16, "N": 5, "block_size": 16, "quant_type": kind}
        yield Recipe(f"matmul_bnb4/{kind}", "MatMulBnb4", [draw.f32(2, 3, 16), draw.u8(40), draw.f32(5)], attributes)
    yield from _packed_weights(draw)
    groups = np.array([1, 0] * 16, np.int32)
    inputs = [draw.f32(2, 32), draw.u8(5, 2, 8), draw.f32(5, 2), None, groups]
    yield Recipe("matmul_nbits/groups", "MatMulNBits", inputs, {"K": 32, "N": 5, "block_size": 16}, tolerance=5e-3)
    inputs = [draw.f32(2, 32), draw.u8(5, 2, 0), draw.f32(5, 2), None, None, draw.f32(5)]
    yield Recipe("matmul_nbits/empty", "MatMulNBits", inputs, {"K": 32, "N": 5, "block_size": 16})


def _packed_weights(draw: Draw) -> Iterator[Recipe]:
    """Products with weights that are part of the model, as they are in language models."""
    for rows in (1, 5):
        for bits, K, size in ((4, 128, 32), (4, 80, 32), (8, 64, 16), (2, 128, 64)):
            count, N = -(-K // size), 24
            weights, scales = draw.u8(N, count, size * bits // 8), draw.positive(N, count)
            zero = draw.u8(N, -(-count * bits // 8))
            inputs: list[Any] = [draw.f32(1, rows, K), weights, scales, zero, None, draw.f32(N)]
            attributes: dict[str, Any] = {"K": K, "N": N, "bits": bits, "block_size": size}
            name = f"matmul_nbits/weights/{rows}/{bits}/{K}"
            yield Recipe(name, "MatMulNBits", inputs, attributes, tolerance=5e-3, constant=(1, 2, 3, 5))
        x, scales = inputs[0].astype(np.float16), scales.astype(np.float16)
        name = f"matmul_nbits/half/{rows}"
        yield Recipe(name, "MatMulNBits", [x, weights, scales], attributes, (FLOAT16,), tolerance=2e-2, constant=(1, 2))


def states(draw: Draw) -> Iterator[Recipe]:
    for rule in ("linear", "gated", "delta", "gated_delta"):
        for heads, kv_heads in ((4, 2), (2, 4)):
            decay = -np.abs(draw.f32(2, 5, kv_heads)) if "gated" in rule else None
            beta = draw.unit((2, 5, kv_heads)).astype(np.float32) if "delta" in rule else None
            inputs: list[Any] = [
                draw.f32(2, 5, heads * 3),
                draw.f32(2, 5, kv_heads * 3, scale=0.5),
                draw.f32(2, 5, kv_heads * 6),
            ]
            attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": kv_heads, "update_rule": rule}
            inputs += [draw.f32(2, kv_heads, 3, 6), decay, beta]
            name = f"linear_attention/{rule}/{heads}"
            yield Recipe(name, "LinearAttention", inputs, attributes, (FLOAT, FLOAT))
        gated = {"gate_activation": "softplus"} if "gated" in rule else {}
        inputs = [draw.f32(6, 2, 3), draw.f32(6, 2, 3), draw.f32(6, 4, 5), np.array([0, 2, 6], np.int32)]
        inputs += [draw.f32(6, 4) if gated else None, draw.f32(6, 4) if "delta" in rule else None, draw.f32(2, 4, 5, 3)]
        inputs += [draw.f32(4), draw.f32(4)] if gated else []
        attributes = {"update_rule": rule, "qk_l2_norm": 1, "beta_activation": "sigmoid", **gated}
        yield Recipe(f"gated_delta_net/{rule}", "GatedDeltaNet", inputs, attributes, (FLOAT, FLOAT))
    for last in (0, 1):
        for dilation in (1, 2):
            x, past = ((2, 5, 4), (2, 2 * dilation, 4)) if last else ((2, 4, 5), (2, 4, 2 * dilation))
            inputs = [draw.f32(*x), draw.f32(4, 1, 3), draw.f32(4), draw.f32(*past)]
            attributes = {"activation": "silu", "dilation": dilation, "channels_last": last}
            yield Recipe(f"causal_conv/{last}{dilation}", "CausalConvWithState", inputs, attributes, (FLOAT, FLOAT))
    for steps in (2, 5):
        inputs = [
            draw.f32(2, steps, 12),
            draw.f32(2, steps, 6, scale=0.5),
            draw.f32(2, steps, 12),
            draw.f32(3, 2, 2, 3, 6),
        ]
        attributes = {"q_num_heads": 4, "kv_num_heads": 2, "update_rule": "linear", "state_window": 3}
        name = f"linear_attention/window/{steps}"
        yield Recipe(name, "LinearAttention", inputs, attributes, (FLOAT, FLOAT), judged=False)
        for last in (0, 1):
            x, states = ((2, steps, 4), (3, 2, 2, 4)) if last else ((2, 4, steps), (3, 2, 4, 2))
            inputs = [draw.f32(*x), draw.f32(4, 1, 3), draw.f32(4), draw.f32(*states)]
            attributes = {"channels_last": last, "state_window": 3}
            name = f"causal_conv/window/{last}{steps}"
            yield Recipe(name, "CausalConvWithState", inputs, attributes, (FLOAT, FLOAT), judged=False)
    inputs = [draw.f32(2, 3, 4), draw.f32(4), -np.abs(draw.f32(4)), draw.f32(2, 3, 4)]
    yield Recipe("linear_attention_gate", "LinearAttentionGate", inputs, {}, (FLOAT, FLOAT))


def experts(draw: Draw) -> Iterator[Recipe]:
    for activation in ("relu", "gelu", "silu", "identity", "swiglu"):
        for normalize in (0, 1):
            wide = 32 if activation == "swiglu" else 16
            attributes: dict[str, Any] = {"k": 2, "activation_type": activation, "normalize_routing_weights": normalize}
            if activation == "swiglu":
                attributes |= {"swiglu_fusion": 1, "swiglu_limit": 2.0, "activation_alpha": 1.7, "activation_beta": 1.0}
            inputs: list[Any] = [
                draw.f32(5, 8),
                draw.f32(5, 4),
                draw.f32(4, wide, 8),
                draw.f32(4, wide),
                draw.f32(4, 8, 16),
                draw.f32(4, 8),
            ]
            yield Recipe(f"moe/{activation}/{normalize}", "MoE", inputs, attributes)
    for bits in (4, 8):
        for block in (0, 16):
            count = 32 // block if block else 1
            attributes = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": bits}
            attributes |= {"normalize_routing_weights": 1} | ({"block_size": block} if block else {})
            scales = [draw.positive(4, size, count) if block else draw.positive(4, size) for size in (64, 32)]
            inputs = [
                draw.f32(5, 32),
                draw.f32(5, 4),
                draw.u8(4, 64, 4 * bits),
                scales[0],
                draw.f32(4, 64),
                draw.u8(4, 32, 4 * bits),
                scales[1],
            ]
            yield Recipe(f"q_moe/{bits}/{block}", "QMoE", [*inputs, draw.f32(4, 32)], attributes, tolerance=5e-2)


FAMILIES = (elementwise, normalizations, products, blocks, states, experts)
