"""Which code a training runs: one SHA-256 over the sources that it can execute."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Iterable

ROOT = Path(__file__).resolve().parents[2]


def source_files(scripts: Iterable[Path], root: Path = ROOT) -> list[Path]:
    """These scripts and all modules below `root` that they import, directly or through others, in any function."""
    found: set[Path] = set()
    todo = list(scripts)
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                package = path.relative_to(root).parts[: -node.level] if node.level else ()
                module = ".".join([*package, *filter(None, [node.module])])
                names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            for name in names:
                parts = name.split(".")
                parents = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
                todo += filter(Path.is_file, [*parents, root.joinpath(*parts).with_suffix(".py")])
    return sorted(found)


def code_sha256(method: str, root: Path = ROOT) -> str:
    """Of train_<method>.py (of every script at the root where there is none) and what it imports from here.

    Tests, tables and pages are not among them. Line endings do not count.
    """
    scripts = list(root.glob(f"train_{method}.py")) or list(root.glob("*.py"))
    digest = hashlib.sha256()
    for path in source_files(scripts, root):
        digest.update(f"{path.relative_to(root).as_posix()}\n{path.read_text(encoding='utf-8')}\0".encode())
    return digest.hexdigest()
