"""Small cases for tests of the harness, in a pack of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from webdnn_conformance.case import Case, DataSet, make_case
from webdnn_conformance.result import Run
from webdnn_conformance.runner import run_conformance
from webdnn_conformance.store import Pack, write_pack
from webdnn_conformance.worker import Options

__all__ = ["ADD", "CHAIN", "EVERY", "MUL", "TRANSPOSE", "case", "pack_of", "run"]

ADD, MUL = "tests/node/add/14/f32/add", "tests/node/mul/14/f32/mul"
TRANSPOSE, CHAIN = "tests/node/transpose/13/f32/transpose", "tests/node/composite/13/f32/chain"


def case(name: str, nodes: list[Any], inputs: dict[str, Any], expected: Any, opset: int) -> Case:
    """A case whose inputs and only output are float32 arrays."""
    kinds = [helper.make_tensor_value_info(key, TensorProto.FLOAT, value.shape) for key, value in inputs.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, expected.shape)
    graph = helper.make_graph(nodes, name, kinds, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return make_case("tests/node", name, model, [DataSet(inputs, [expected])])


def _cases() -> list[Case]:
    random = np.random.default_rng(3)
    a, b = (random.standard_normal((3, 4)).astype(np.float32) for _ in range(2))
    square = [random.standard_normal((8, 8)).astype(np.float32) for _ in range(4)]
    chain = [
        helper.make_node("MatMul", ["a", "b"], ["p"]),
        helper.make_node("MatMul", ["c", "d"], ["q"]),
        helper.make_node("MatMul", ["p", "q"], ["y"]),
    ]
    product = (square[0] @ square[1]) @ (square[2] @ square[3])
    return [
        case("add", [helper.make_node("Add", ["a", "b"], ["y"])], {"a": a, "b": b}, a + b, 14),
        case("mul", [helper.make_node("Mul", ["a", "b"], ["y"])], {"a": a, "b": b}, a * b, 14),
        case("transpose", [helper.make_node("Transpose", ["a"], ["y"])], {"a": a}, a.T.copy(), 13),
        case("chain", chain, dict(zip("abcd", square, strict=True)), product, 13),
    ]


EVERY = {one.id: one for one in _cases()}


def pack_of(folder: Path, *ids: str) -> Pack:
    """A pack with these cases, all of them unless any are named."""
    path = folder / "tests.pack"
    write_pack(path, [EVERY[name] for name in ids or EVERY])
    return Pack(path)


def run(folder: Path, *ids: str, jobs: int = 0, **options: Any) -> Run:
    """Run cases under Node, on js and wasm unless told otherwise."""
    pack = pack_of(folder, *ids)
    chosen = Options(**{"backends": ("js", "wasm"), "engine": "node", "timeout": 20.0, **options})
    return run_conformance([(pack.path, name) for name in pack], chosen, jobs=jobs, known=list(pack))
