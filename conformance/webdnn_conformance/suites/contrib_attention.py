"""Recipes of the attention operators of com.microsoft, in the forms that exporters of language models write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from webdnn_conformance.suites.recipes import FLOAT, FLOAT16, INT8, UINT8, Array, Draw, Recipe

__all__ = ["FAMILIES"]

_BATCH, _STEPS, _HEADS, _SIZE = 2, 4, 3, 4
_HIDDEN = _HEADS * _SIZE


def _masks(draw: Draw, keys: int) -> dict[str, Array | None]:
    """The forms of a mask: how many keys count, where they begin and end, and flags for each key or pair."""
    return {
        "none": None,
        "lengths": np.array([keys, keys - 2], np.int32),
        "ends": np.array([keys, keys - 1, 0, 1], np.int32),
        "keys": draw.integers(0, 2, (_BATCH, keys)).astype(np.int32),
        "queries": draw.integers(0, 2, (_BATCH, _STEPS, keys)).astype(np.int32),
    }


def rotary(draw: Draw) -> Iterator[Recipe]:
    angles = draw.f32(10, _SIZE // 2)
    caches = [np.cos(angles), np.sin(angles)]
    wide, heads = draw.f32(_BATCH, _STEPS, _HIDDEN), draw.f32(_BATCH, _HEADS, _STEPS, _SIZE)
    positions = draw.integers(0, 10, (_BATCH, _STEPS))
    for interleaved in (0, 1):
        for rank, x in ((3, wide), (4, heads)):
            for name, at in (("offset", np.array([3])), ("positions", positions)):
                attributes = {"interleaved": interleaved}
                yield Recipe(f"rotary/{interleaved}{rank}/{name}", "RotaryEmbedding", [x, at, *caches], attributes)
    attributes = {"num_heads": 2, "rotary_embedding_dim": _SIZE}
    yield Recipe(
        "rotary/part",
        "RotaryEmbedding",
        [draw.f32(_BATCH, _STEPS, 12), positions, *caches],
        attributes,
        constant=(2, 3),
    )
    halves = [x.astype(np.float16) for x in (wide, *caches)]
    inputs = [halves[0], positions, *halves[1:]]
    yield Recipe("rotary/half", "RotaryEmbedding", inputs, {}, (FLOAT16,), tolerance=4e-3)


def rotary_of_images(draw: Draw) -> Iterator[Recipe]:
    """Positions in time, height and width."""
    turns = draw.f32(10, 6)
    caches, ids = [np.cos(turns), np.sin(turns)], draw.integers(0, 10, (3, _BATCH, _STEPS))
    for layout in (0, 1):
        for rank, shape in ((3, (_BATCH, _STEPS, 24)), (4, (_BATCH, 2, _STEPS, 12))):
            attributes = {"mrope_section": [2, 2, 2], "mrope_layout": layout, "interleaved": layout, "num_heads": 2}
            yield Recipe(f"m_rotary/{layout}{rank}", "MRotaryEmbedding", [draw.f32(*shape), ids, *caches], attributes)


def packed_projections(draw: Draw) -> Iterator[Recipe]:
    """Attention and QAttention, which project by one matrix."""
    x, weights, bias = draw.f32(_BATCH, _STEPS, 6), draw.f32(6, 3 * _HIDDEN), draw.f32(3 * _HIDDEN)
    both = (FLOAT, FLOAT)
    for unidirectional in (0, 1):
        attributes: dict[str, Any] = {"num_heads": _HEADS, "unidirectional": unidirectional}
        for name, mask in _masks(draw, _STEPS).items():
            yield Recipe(f"attention/{unidirectional}/{name}", "Attention", [x, weights, bias, mask], attributes, both)
        past = draw.f32(2, _BATCH, _HEADS, 3, _SIZE)
        inputs = [x, weights, bias, _masks(draw, _STEPS + 3)["keys"], past]
        yield Recipe(f"attention/{unidirectional}/past", "Attention", inputs, attributes, both)
        inputs = [x, weights, bias, None, None, draw.f32(1, _HEADS, _STEPS, _STEPS)]
        yield Recipe(f"attention/{unidirectional}/bias", "Attention", inputs, attributes)
    attributes = {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 12], "scale": 0.3}
    yield Recipe("attention/sizes", "Attention", [x, draw.f32(6, 28), draw.f32(28)], attributes, constant=(1, 2))
    codes, matrix = draw.u8(_BATCH, _STEPS, 6), draw.integers(-9, 9, (6, 3 * _HIDDEN)).astype(np.int8)
    scales = [draw.scalar(0.02), draw.scalar(0.03)]
    zeros = [draw.scalar(3, np.uint8), draw.scalar(2, np.int8)]
    attributes = {"num_heads": _HEADS}
    inputs = [codes, matrix, bias, *scales, _masks(draw, _STEPS)["lengths"], *zeros]
    yield Recipe("q_attention/lengths", "QAttention", inputs, attributes, tolerance=1e-3)
    columns = [scales[0], draw.positive(3 * _HIDDEN)]
    inputs = [codes, matrix, bias, *columns, None, zeros[0], np.zeros(3 * _HIDDEN, np.int8)]
    inputs.append(draw.f32(2, _BATCH, _HEADS, 3, _SIZE))
    causal = attributes | {"unidirectional": 1}
    yield Recipe("q_attention/past", "QAttention", inputs, causal, both, tolerance=1e-3, constant=(1, 2, 4, 7))


def separate_projections(draw: Draw) -> Iterator[Recipe]:
    """MultiHeadAttention, and its form for one new token."""
    q, k, v = (draw.f32(_BATCH, _STEPS, _HIDDEN) for _ in range(3))
    bias = draw.f32(3 * _HIDDEN)
    attributes: dict[str, Any] = {"num_heads": _HEADS}
    presents = (FLOAT,) * 3
    for name, mask in _masks(draw, _STEPS).items():
        if name == "ends":
            continue
        inputs = [q, k, v, bias, mask]
        yield Recipe(f"multi_head/{name}", "MultiHeadAttention", inputs, attributes)
    biased = [draw.f32(_BATCH, _HEADS, _STEPS, _STEPS + 3), *(draw.f32(_BATCH, _HEADS, 3, _SIZE) for _ in range(2))]
    for unidirectional in (0, 1):
        mask = _masks(draw, _STEPS + 3)["keys"]
        inputs = [q, k, v, None, mask, *biased]
        causal = attributes | {"unidirectional": unidirectional}
        yield Recipe(f"multi_head/past/{unidirectional}", "MultiHeadAttention", inputs, causal, (FLOAT,) * 4)
    token = [draw.f32(_BATCH, 1, _HIDDEN) for _ in range(3)]
    caches = [draw.f32(_BATCH, _HEADS, 5, _SIZE) for _ in range(2)]
    inputs = [*token, None, None, None, *caches]
    yield Recipe("multi_head/token", "MultiHeadAttention", inputs, attributes, presents)
    longer = [draw.f32(_BATCH, 6, _HIDDEN) for _ in range(2)]
    yield Recipe("multi_head/cross", "MultiHeadAttention", [q, *longer, bias], attributes | {"scale": 0.4})
    kept = [draw.f32(_BATCH, _HEADS, 6, _SIZE) for _ in range(2)]
    yield Recipe("multi_head/cross/heads", "MultiHeadAttention", [q, *kept], attributes)
    wide = [q, k, draw.f32(_BATCH, _STEPS, 2 * _HIDDEN)]
    yield Recipe("multi_head/values", "MultiHeadAttention", wide, attributes)
    packed = [draw.f32(_BATCH, _STEPS, _HEADS, 3, _SIZE)]
    yield Recipe("multi_head/packed", "MultiHeadAttention", packed, attributes, judged=False)
    packed = [q, draw.f32(_BATCH, 6, _HEADS, 2, _SIZE)]
    yield Recipe("multi_head/packed/cross", "MultiHeadAttention", packed, attributes, judged=False)
    hidden = np.array([[1, 0, 1, 1], [0, 1, 1, 1]], np.int32)
    name = "DecoderMaskedMultiHeadAttention"
    for mask in (None, hidden):
        inputs = [*token, mask, draw.f32(1, _HEADS, 1, 4), *(draw.f32(_BATCH, _HEADS, 6, _SIZE) for _ in range(2))]
        inputs.append(np.array([3], np.int32))
        shared = attributes | {"past_present_share_buffer": 1}
        yield Recipe(f"decoder_masked/{mask is not None:d}", name, inputs, shared, presents)
        inputs = [token[0], *(draw.f32(_BATCH, _HEADS, 4, _SIZE) for _ in range(2)), mask]
        yield Recipe(f"decoder_masked/cross/{mask is not None:d}", name, inputs, attributes)


_GROUPED, _WIDTH = 4, 16


def _grouped(
    draw: Draw, sequence: int, past: int, lengths: list[int], total: int, *, packed: bool = False, angles: bool = False
) -> list[Any]:
    """Inputs 0 to 8 of GroupQueryAttention with one head of keys. lengths: the keys of each entry after this step."""
    batch, columns = len(lengths), _GROUPED * _WIDTH
    if packed:
        inputs: list[Any] = [draw.f32(batch, sequence, columns + 2 * _WIDTH), None, None]
    else:
        inputs = [draw.f32(batch, sequence, width) for width in (columns, _WIDTH, _WIDTH)]
    inputs += [draw.f32(batch, 1, past, _WIDTH) for _ in range(2)]
    inputs += [np.array(lengths, np.int32) - 1, np.array(total, np.int32)]
    turns = draw.f32(32, _WIDTH // 2)
    return inputs + ([np.cos(turns), np.sin(turns)] if angles else [None, None])


def grouped_queries(draw: Draw) -> Iterator[Recipe]:
    op, outputs = "GroupQueryAttention", (FLOAT,) * 3
    common: dict[str, Any] = {"num_heads": _GROUPED, "kv_num_heads": 1}
    steps: dict[str, tuple[int, int, list[int], int]] = {
        "prompt": (4, 0, [4, 4], 4),
        "token": (1, 5, [6, 6], 6),
        "tokens": (3, 5, [8], 8),
    }
    for name, step in steps.items():
        for packed in (False, True):
            inputs = _grouped(draw, *step, packed=packed)
            yield Recipe(f"grouped/{name}/{packed:d}", op, inputs, common, outputs)
        for interleaved in (0, 1):
            inputs = _grouped(draw, *step, angles=True)
            turned = common | {"do_rotary": 1, "rotary_interleaved": interleaved}
            yield Recipe(f"grouped/{name}/rotary/{interleaved}", op, inputs, turned, outputs)
        extras: dict[str, dict[str, Any]] = {
            "window": {"local_window_size": 2},
            "softcap": {"softcap": 2.0},
            "smooth": {"smooth_softmax": 1},
            "scale": {"scale": 0.1},
        }
        for extra, attributes in extras.items():
            yield Recipe(f"grouped/{name}/{extra}", op, _grouped(draw, *step), common | attributes, outputs)
        inputs = [*_grouped(draw, *step), None, None, draw.f32(_GROUPED)]
        yield Recipe(f"grouped/{name}/sink", op, inputs, common, outputs)
        sequence, _, lengths, total = step
        inputs = [*_grouped(draw, *step), None, draw.f32(1, _GROUPED, sequence, total)]
        yield Recipe(f"grouped/{name}/bias", op, inputs, common, outputs)
        at = np.arange(total - sequence, total)[None].repeat(len(lengths), axis=0)
        inputs = [*_grouped(draw, *step, angles=True), at]
        yield Recipe(f"grouped/{name}/positions", op, inputs, common | {"do_rotary": 1}, outputs)
        for shown in (1, 2):
            inputs = _grouped(draw, *step)
            yield Recipe(f"grouped/{name}/scores/{shown}", op, inputs, common | {"qk_output": shown}, (FLOAT,) * 4)
    yield from _grouped_lengths(draw, common)
    yield from _grouped_caches(draw, common)
    halves = [None if x is None else x.astype(np.float16) if x.dtype == np.float32 else x for x in inputs]
    yield Recipe("grouped/half", op, halves, common | {"do_rotary": 0}, (FLOAT16,) * 3, tolerance=1e-2)


def _grouped_lengths(draw: Draw, common: dict[str, Any]) -> Iterator[Recipe]:
    """Entries of several lengths, and buffers longer than what they hold. Where onnxruntime leaves numbers in padding
    that mean nothing, the reference gives zeros."""
    steps: dict[str, tuple[int, int, list[int], int]] = {
        "padded": (4, 0, [4, 2], 4),
        "buffer": (4, 8, [4, 4], 4),
        "ragged": (1, 8, [6, 4], 6),
    }
    for name, step in steps.items():
        inputs = _grouped(draw, *step, angles=True)
        attributes = common | {"do_rotary": 1, "local_window_size": 3}
        whole = name != "padded"
        yield Recipe(f"grouped/{name}", "GroupQueryAttention", inputs, attributes, (FLOAT,) * 3, judged=whole)
    inputs = [*_grouped(draw, 3, 8, [5, 6], 8, angles=True), *[None] * 7, np.array([3, 1], np.int32)]
    attributes = common | {"do_rotary": 1}
    yield Recipe("grouped/chunk", "GroupQueryAttention", inputs, attributes, (FLOAT,) * 3, judged=False)
    inputs = [*_grouped(draw, 3, 0, [3, 3], 3), *[None] * 5, draw.f32(_WIDTH), draw.f32(_WIDTH)]
    yield Recipe("grouped/norm", "GroupQueryAttention", inputs, common, (FLOAT,) * 3, judged=False)


def _grouped_caches(draw: Draw, common: dict[str, Any]) -> Iterator[Recipe]:
    """Caches in 8 and 4 bits, and caches that hold a window."""
    for bits, kind, dtype in ((8, INT8, np.int8), (4, UINT8, np.uint8)):
        for mode, shape in (("PER_TENSOR", (1,)), ("PER_CHANNEL", (1, 1, 1, _WIDTH))):
            types = {"k_quant_type": mode, "v_quant_type": mode, "kv_cache_bit_width": bits}
            for name, step in (("prompt", (4, 0, [4, 4], 4)), ("token", (1, 5, [6, 6], 6))):
                inputs = _grouped(draw, *step)
                rows = (2, 1, step[1], _WIDTH * bits // 8)
                inputs[3:5] = [(draw.i8 if bits == 8 else draw.u8)(*rows).astype(dtype) for _ in range(2)]
                scales = [draw.positive(*shape) * np.float32(8 if bits == 4 else 1) for _ in range(2)]
                inputs += [None, None, None, *scales]
                name = f"grouped/bits/{bits}/{mode}/{name}"
                outputs = (FLOAT, kind, kind)
                yield Recipe(name, "GroupQueryAttention", inputs, common | types, outputs, tolerance=2e-2)
    window = common | {"sliding_window_cache": 1, "local_window_size": 3}
    for name, step in (("filling", (1, 4, [3], 3)), ("full", (1, 4, [7], 7)), ("slack", (1, 5, [8], 8))):
        inputs = _grouped(draw, *step)
        whole = name == "slack"
        yield Recipe(f"grouped/windowed/{name}", "GroupQueryAttention", inputs, window, (FLOAT,) * 3, judged=whole)
    inputs = _grouped(draw, 6, 4, [9], 9)
    yield Recipe("grouped/windowed/chunk", "GroupQueryAttention", inputs, window, (FLOAT,) * 3, judged=False)


def sparse(draw: Draw) -> Iterator[Recipe]:
    """Blocks of 16 keys; two layouts, which heads take in turn. onnxruntime computes in place only, and entries of
    several lengths not as the schema says."""
    block, size, length = 16, 16, 64
    rows = np.array([[0, 1, 3, 5, 8], [0, 1, 3, 6, 9]], np.int32)
    columns = np.array([[0, 0, 1, 1, 2, 1, 2, 3, -1], [0, 0, 1, 0, 1, 2, 0, 2, 3]], np.int32)
    common: dict[str, Any] = {"num_heads": 4, "kv_num_heads": 2, "sparse_block_size": block}
    turns = draw.f32(length, size // 2)
    for name, sequence, counts in (("prompt", 40, [40, 40]), ("token", 1, [50, 50]), ("ragged", 1, [35, 50])):
        for packed in (False, True):
            widths = [8 * size] if packed else [4 * size, 2 * size, 2 * size]
            inputs: list[Any] = [draw.f32(2, sequence, width) for width in widths]
            inputs += [None] * (3 - len(inputs))
            past = [draw.f32(2, 2, length, size) for _ in range(2)]
            inputs += [*past, rows, columns, np.array([max(counts)], np.int32), np.array(counts, np.int32)]
            attributes = common | ({"do_rotary": 1} if packed else {"scale": 0.2})
            inputs += [np.cos(turns), np.sin(turns)] if packed else []
            full = f"sparse/{name}/{packed:d}"
            yield Recipe(full, "SparseAttention", inputs, attributes, (FLOAT,) * 3, judged=False)


FAMILIES = (rotary, rotary_of_images, packed_projections, separate_projections, grouped_queries, sparse)
