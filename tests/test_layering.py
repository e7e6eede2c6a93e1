"""Imports point downward only: the picture in docs/architecture.md, held by walking the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "webdnn_onnx": ROOT / "webdnn_onnx",
    "webdnn_reference": ROOT / "reference" / "webdnn_reference",
    "webdnn_backends": ROOT / "backends" / "webdnn_backends",
    "webdnn_conformance": ROOT / "conformance" / "webdnn_conformance",
}
BOTTOM = ("errors", "dtypes", "symbolic", "graph", "registry")
"""Modules of webdnn_onnx that everything may import, each only from those before it or beside it."""
LOADING = "load"
"""With the modules `load_*` it reads a model into a graph, and stands on the bottom alone."""
MAY_IMPORT = {
    "webdnn_reference": {"webdnn_reference", "webdnn_onnx"},
    "webdnn_backends": {"webdnn_backends", "webdnn_onnx"},
    "webdnn_onnx": {"webdnn_onnx", "webdnn_reference", "webdnn_backends"},
    "webdnn_conformance": {"webdnn_conformance", "webdnn_onnx", "webdnn_reference", "webdnn_backends"},
}


def _imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of our own modules that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: expected absolute imports, got a relative one"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in PACKAGES)


def _modules() -> list[tuple[str, Path]]:
    return [
        (f"{package}.{'.'.join(path.relative_to(folder).with_suffix('').parts)}", path)
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
    ]


def upward(module: str, imported: str) -> str:
    """Why a module may not import another; empty if it may."""
    package, _, name = module.partition(".")
    target, _, rest = imported.partition(".")
    part, wanted = name.partition(".")[0], rest.partition(".")[0]
    if target not in MAY_IMPORT[package]:
        return f"{package} lies below {target}"
    low = wanted in BOTTOM or _loads(wanted)
    if package in ("webdnn_reference", "webdnn_backends") and target == "webdnn_onnx" and not low:
        return f"{package} may use only {', '.join(BOTTOM)} and loading of webdnn_onnx"
    if package == "webdnn_onnx" and part in BOTTOM and (target != package or wanted not in BOTTOM):
        return "the bottom layer stands on itself alone"
    if package == "webdnn_onnx" and _loads(part) and (target != package or not low):
        return "loading stands on the bottom layer alone"
    return ""


def _loads(module: str) -> bool:
    return module == LOADING or module.startswith(f"{LOADING}_")


@pytest.mark.parametrize(("module", "path"), _modules(), ids=[module for module, _ in _modules()])
def test_module_imports_nothing_above_it(module: str, path: Path) -> None:
    found = [(name, upward(module, name)) for name in _imports(ast.parse(path.read_text()))]
    assert not [f"{name}: {why}" for name, why in found if why]


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("webdnn_reference.ops.shape", "webdnn_backends.wasm"),
        ("webdnn_reference.interpreter", "webdnn_onnx.passes"),
        ("webdnn_backends.js", "webdnn_reference.numeric"),
        ("webdnn_onnx.graph", "webdnn_onnx.load"),
        ("webdnn_onnx.load", "webdnn_reference.interpreter"),
        ("webdnn_onnx.cli", "webdnn_conformance.drivers"),
    ],
)
def test_upward_import_is_found(module: str, imported: str) -> None:
    assert upward(module, imported)


def test_packages_are_all_walked() -> None:
    assert {module.partition(".")[0] for module, _ in _modules()} == set(PACKAGES)
