"""What an import may do, who may import whom, and what the package promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ezbatch

PACKAGE = Path(ezbatch.__file__).parent

SCRIPT = """if True:
    import sys
    seen = []
    def watch(event, args):
        if event.startswith(("socket.", "subprocess.", "urllib.", "sqlite3.", "os.mkdir", "os.remove", "os.rename")):
            seen.append((event, args))
        if event == "open" and isinstance(args[2], int) and args[2] & 3:  # not read only
            seen.append((event, args))
    sys.addaudithook(watch)
    sys.dont_write_bytecode = True
    import ezbatch
    for name in ezbatch.__all__:
        getattr(ezbatch, name)
    assert not seen, seen
    for name in ("boto3", "botocore", "IPython", "graphviz"):
        assert name not in sys.modules, name
"""


@pytest.mark.parametrize("home", [True, False])
def test_an_import_loads_no_boto3_opens_no_socket_and_writes_no_file(tmp_path: Path, *, home: bool) -> None:
    # Everything that is public is fetched, not only the package itself.
    environment = {"HOME": str(tmp_path)} if home else {}
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, env=environment, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_package_alone_loads_nothing_at_all() -> None:
    script = "import sys; before = set(sys.modules); import ezbatch; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env={})
    assert {name for name in done.stdout.split() if name.startswith("ezbatch")} == {"ezbatch"}


#: DESIGN's table: each module, and what it may import at its top. Inside functions: see `DELEGATES`.
ALLOWED = {
    "__init__": set[str](),
    "errors": set(),
    "spec": {"errors"},
    "names": set(),
    "preloader": {"s3"},
    "s3": {"errors", "spec"},
    "workflow": {"s3", "spec", "errors", "names", "preloader"},
    "rules": {"workflow", "s3", "spec", "errors", "preloader"},
    "planning": {"workflow", "s3", "spec", "errors", "rules", "names", "preloader"},
    "settings": {"errors", "spec"},
    "backend": {"planning", "errors"},
    "explain": {"backend", "preloader"},
    "database": {"errors"},
    "ledger": {"backend", "errors", "database"},
    "logs": {"backend", "errors"},
    "cost": {"backend", "planning", "errors"},
    "options": {"rules", "workflow", "s3", "spec"},
    "progress": {"run"},
    "spending": {"run", "cost", "ledger", "planning", "settings", "workflow"},
    "garbage": {"ledger", "settings"},
    "local": {"backend", "planning", "settings", "errors", "spec", "database", "preloader", "names", "s3"},
    "aws": {"backend", "planning", "settings", "errors", "spec", "names", "rules", "preloader", "s3", "workflow"},
    "stuck": {"explain"},
    "images": set(),
    "diagnosis": {"settings", "errors", "planning", "images"},
    "run": {
        "ledger",
        "stuck",
        "explain",
        "backend",
        "planning",
        "settings",
        "errors",
        "spec",
        "names",
        "workflow",
        *("cost", "progress", "logs"),
    },
}
#: The only imports upward or sideways, each inside a function: `submit()` and `problems()` of a workflow, `check()` of
#: mounts, the backends of a run.
DELEGATES = {
    ("workflow", "run"),
    ("workflow", "planning"),
    ("s3", "aws"),
    ("run", "local"),
    ("run", "aws"),
    ("run", "progress"),
    ("garbage", "aws"),
    ("spending", "aws"),
    ("diagnosis", "local"),
    ("diagnosis", "aws"),
}


def imports(tree: ast.AST, package: str) -> Iterator[tuple[str, bool]]:
    """Each import of our own modules, and whether it is inside a function."""

    def walk(node: ast.AST, *, inside: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    base = ".".join(
                        filter(None, [*package.split(".")[: len(package.split(".")) - child.level + 1], base])
                    )
                yield from ((f"{base}.{alias.name}", inside) for alias in child.names)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                # What only type checkers read is no import.
                typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
                yield from walk(child, inside=inside or function or typing)

    for name, inside in walk(tree, inside=False):
        if name == "ezbatch" or name.startswith("ezbatch."):
            yield name, inside


def room(path: Path) -> str:
    """The row of the table that a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


FILES = sorted(path for path in PACKAGE.rglob("*.py") if room(path) in ALLOWED and room(path) != "__init__")


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_a_room_imports_only_from_its_left(path: Path) -> None:
    own = room(path)
    package = ".".join(["ezbatch", *path.relative_to(PACKAGE).parent.parts])
    for name, inside in imports(ast.parse(path.read_text()), package):
        target = name.split(".")[1]
        if target in (own, "__version__") or target in ezbatch.__all__:
            continue
        if inside and (own, target) in DELEGATES:
            continue
        assert target in ALLOWED[own], f"{path.name} imports {name}"


def test_the_table_has_every_room() -> None:
    # The command line is a view: it shows whatever there is, and prints.
    assert {room(path) for path in PACKAGE.rglob("*.py")} == {*ALLOWED, "cli", "cli_aws"}


def test_only_one_room_has_boto3() -> None:
    for path in PACKAGE.rglob("*.py"):
        if room(path) != "aws":
            names = [
                alias.name if isinstance(node, ast.Import) else node.module or ""
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names
            ]
            assert not [name for name in names if name.split(".")[0] in ("boto3", "botocore")], path


def test_the_library_prints_nothing() -> None:
    for path in FILES:
        calls = [
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert "print" not in calls, path


DOCUMENTED = """
    BackendError EZBatchError EZBatchJob EZBatchJobDefinition EZBatchRun EZBatchWorkflow EngineError
    InvalidWorkflowError JobFailedError JobNotFoundError JobReport JobState LogEvent Plan Problem RunInterruptedError
    RunNotFoundError S3Mount S3Mounts Settings SettingsError SpecTypeError StateDirectoryError WaitTimeoutError
    WorkflowFileError __version__ plan runs
""".split()  # noqa: SIM905 - thirty names read better without quotes


def test_the_export_list_is_the_documented_one() -> None:
    assert set(DOCUMENTED) <= set(ezbatch.__all__)
    assert sorted(ezbatch.__all__) == sorted(set(ezbatch.__all__))
    assert dir(ezbatch) == sorted(ezbatch.__all__)
    for name in ezbatch.__all__:
        value = getattr(ezbatch, name)
        assert name == "__version__" or value.__module__.startswith("ezbatch")
    with pytest.raises(AttributeError, match="nothing"):
        ezbatch.nothing  # noqa: B018 - to look is the test


def test_the_documented_paths_work() -> None:
    from ezbatch import EZBatchJob
    from ezbatch.s3 import S3Mount, S3Mounts
    from ezbatch.workflow import EZBatchJob as SameJob
    from ezbatch.workflow import EZBatchWorkflow

    assert EZBatchJob is SameJob
    assert (ezbatch.EZBatchWorkflow, ezbatch.S3Mount, ezbatch.S3Mounts) == (EZBatchWorkflow, S3Mount, S3Mounts)


def test_every_error_is_ours_and_the_builtin_it_resembles() -> None:
    from ezbatch import errors

    for name in errors.__all__:
        kind = getattr(errors, name)
        if name in ("Problem", "EZBatchError"):
            continue
        assert issubclass(kind, errors.EZBatchError)
        builtins = (TypeError, ValueError, OSError, LookupError, RuntimeError, TimeoutError)
        assert issubclass(kind, builtins), name
