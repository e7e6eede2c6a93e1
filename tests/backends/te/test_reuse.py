"""Equal stages are scheduled once, under names that nobody sees."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

sys.path.insert(0, str(Path(__file__).parent))
from compiled import model, random

from webdnn_backends.targets import BACKENDS, target
from webdnn_backends.te.compile import compile_program
from webdnn_backends.te.implementation import Implementation, ScheduleContext
from webdnn_backends.te.reuse import Reuse, Scheduled
from webdnn_backends.te.tensors import Call, Stage
from webdnn_onnx.convert import prepare
from webdnn_onnx.errors import LimitError

node = helper.make_node


def layers(count: int) -> bytes:
    nodes, weights = [], {}
    for number in range(count):
        nodes.append(node("MatMul", [f"x{number}", f"w{number}"], [f"p{number}"]))
        nodes.append(node("Softmax", [f"p{number}"], [f"x{number + 1}"], axis=-1))
        weights[f"w{number}"] = random(16, 16) + number
    return model(nodes, {"x0": ["rows", 16]}, [f"x{count}"], weights)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_layers_share_kernels_and_keep_their_own_tensors(backend: str) -> None:
    program = compile_program(prepare(layers(5))[1], target(backend))
    calls = [item for item in program.items if isinstance(item, Call)]
    assert len({id(call.kernel) for call in calls}) == len(calls) // 5
    products = [call for call in calls if call.kernel.name.startswith("matmul")]
    weights = [next(name for name in call.arguments if name in program.constants) for call in products]
    assert [re.sub(r"#.*", "", name) for name in weights] == [f"w{number}" for number in range(5)]
    assert len({program.constants[name].tobytes() for name in weights}) == 5
    assert len({call.source for call in products}) == 5
    assert not any("\0" in name for name in program.tensors)


def test_constants_have_no_values_while_a_stage_is_scheduled() -> None:
    seen: list[np.ndarray] = []
    chosen = target("wasm")

    def schedule(stage: Stage, context: ScheduleContext) -> Scheduled:
        seen.extend(context.constants.values())
        assert chosen.implement is not None
        found = chosen.implement(stage, context)
        assert isinstance(found, Implementation)
        return Scheduled(found)

    program = prepare(layers(1))[1]
    stage = next(item for item in program.items if isinstance(item, Stage) and item.hint is not None)
    Reuse(schedule)(stage, ScheduleContext(program.tensors, {}, program.constants))
    assert [array.shape for array in seen] == [(16, 16)]
    assert not any(array.any() for array in seen)


def test_errors_name_the_tensor_of_the_model() -> None:
    def schedule(stage: Stage, context: ScheduleContext) -> Scheduled:
        raise LimitError(f"tensor '{context.tensors[stage.output].name}': expected less")

    program = prepare(layers(1))[1]
    stage = next(item for item in program.items if isinstance(item, Stage))
    with pytest.raises(LimitError, match=f"tensor '{stage.output}'"):
        Reuse(schedule)(stage, ScheduleContext(program.tensors, {}, program.constants))
