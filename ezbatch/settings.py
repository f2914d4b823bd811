"""Settings: what a person sets once. Read when asked for, never at import; written by :func:`remember` alone.

Precedence, highest first: arguments (the caller's business), environment variables, ``[tool.ezbatch]`` in the nearest
``pyproject.toml``, the user's file. The user's file is ezbatch 0.1.0's ``~/.config/ezbatch.toml``.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ezbatch.errors import SettingsError
from ezbatch.spec import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["RUNNERS", "S3_STORES", "Settings", "remember"]

S3_STORES = ("directory", "aws")
RUNNERS = ("auto", "docker", "podman", "bwrap", "process")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a person set, with where each value comes from.

    Parameters
    ----------
    queue : str
        The queue of workflows that name none.
    profile, region : str, optional
        For AWS.
    execution_role, task_role : str, optional
        ARNs of the roles for pulling images and writing logs, and for the command itself.
    sse, sse_kms_key_id : str, optional
        The default encryption of what is written to S3.
    staging : str, optional
        The ``s3://bucket/prefix`` where the script of a cell goes that is too big to be a part of its job.
    state_directory : Path
        Holds the ledger and the local engine's state.
    local_runner : str
        ``auto``, ``docker``, ``podman``, ``bwrap`` or ``process``.
    local_s3 : Path, optional
        The directory that stands for S3 on this machine: ``s3://bucket/key`` is ``bucket/key`` below it. None is
        ``s3`` in the state directory.
    local_s3_store : str
        What ``s3://`` is to jobs on this machine: ``directory``, or ``aws`` for S3 itself.
    local_vcpus, local_memory : float, int, optional
        How much of this machine jobs may use (vCPUs, MiB). None is all processors, and nine tenths of the memory.
    local_container_args : tuple of str
        Words put into every ``docker run`` or ``podman run``.
    sources : mapping of str to str
        For each setting that is not the default, where it comes from.
    """

    queue: str = "local"
    profile: str | None = None
    region: str | None = None
    execution_role: str | None = None
    task_role: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    staging: str | None = None
    state_directory: Path = Path()
    local_runner: str = "auto"
    local_s3: Path | None = None
    local_s3_store: str = "directory"
    local_vcpus: float | None = None
    local_memory: int | None = None
    local_container_args: tuple[str, ...] = ()
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def s3_directory(self) -> Path:
        """The directory that stands for S3 on this machine."""
        return self.local_s3 or self.state_directory / "s3"

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, directory: Path | None = None) -> Settings:
        """Read the settings.

        Parameters
        ----------
        environment : mapping of str to str, optional
            Instead of the process's own.
        directory : Path, optional
            Where the search for ``pyproject.toml`` begins, instead of the working directory.

        Returns
        -------
        Settings
            Complete; a file that is not there counts as empty.

        Raises
        ------
        SettingsError
            If a file or variable cannot be used: says which, where and what to do.
        """
        env = os.environ if environment is None else environment
        values: dict[str, object] = {}
        sources: dict[str, str] = {}

        def take(found: Mapping[str, object], source: str) -> None:
            values.update(found)
            sources.update(dict.fromkeys(found, source))

        take(*_user_file(env))
        take(*_project_file(directory))
        for name, (setting, read) in _VARIABLES.items():
            if env.get(name):
                take({setting: read(env[name], f"environment variable {name}")}, f"environment variable {name}")
        if "state_directory" not in values:
            import platformdirs

            values["state_directory"] = Path(platformdirs.user_state_dir("ezbatch", appauthor=False))
        return cls(**values, sources=sources)  # type: ignore[arg-type] # each value was read by its setting's reader


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        message = f"{where} must be a string, not {value!r}. Put it in quotes."
        raise SettingsError(message)
    return value


def _path(value: object, where: str) -> Path:
    try:
        path = Path(_text(value, where)).expanduser()
    except RuntimeError as error:  # a ~ of somebody who is not there
        message = f"{where} is {value!r}: {error} Write the directory out."
        raise SettingsError(message) from None
    return path if path.is_absolute() else Path.cwd() / path


def _runner(value: object, where: str) -> str:
    if value not in RUNNERS:
        message = f"{where} is {value!r}{nearest(str(value), RUNNERS)}. Set one of {', '.join(RUNNERS)}."
        raise SettingsError(message)
    return str(value)


def _s3_store(value: object, where: str) -> str:
    if value not in S3_STORES:
        message = f"{where} is {value!r}{nearest(str(value), S3_STORES)}. Set one of {', '.join(S3_STORES)}."
        raise SettingsError(message)
    return str(value)


#: A bucket's name, and folders whose names keep their place in a directory, too.
_STAGING = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[^/\x00-\x1f\x7f\ud800-\udfff]+)*")


def _staging(value: object, where: str) -> str:
    text = _text(value, where).rstrip("/")
    if not _STAGING.fullmatch(text):
        message = f"{where} is {value!r}, which is no place on S3. Write s3://BUCKET/PREFIX."
        raise SettingsError(message)
    return text


def _number(kind: type[int | float]) -> Callable[[object, str], float]:
    def read(value: object, where: str) -> float:
        try:
            number = kind(value)  # type: ignore[arg-type, call-overload] # what it cannot take is an error below
        except (TypeError, ValueError, OverflowError):
            number = kind(0)
        if isinstance(value, bool) or not 0 < number < float("inf"):
            message = (
                f"{where} must be a number above 0, not {value!r}. Set it, or leave it out for all of the machine."
            )
            raise SettingsError(message)
        return number

    return read


def _words(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        import shlex

        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            message = f"{where} cannot be split into words: {error}. Close the quote."
            raise SettingsError(message) from None
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    message = f"{where} must be a list of strings, not {value!r}."
    raise SettingsError(message)


_Reader = Callable[[object, str], Any]

_VARIABLES: dict[str, tuple[str, _Reader]] = {
    "EZBATCH_QUEUE": ("queue", _text),
    # boto3 itself does not look at AWS_REGION, which every other tool of AWS reads.
    "AWS_DEFAULT_REGION": ("region", _text),
    "AWS_REGION": ("region", _text),
    "EZBATCH_EXECUTION_ROLE": ("execution_role", _text),
    "EZBATCH_TASK_ROLE": ("task_role", _text),
    "EZBATCH_STAGING": ("staging", _staging),
    "EZBATCH_STATE_DIR": ("state_directory", _path),
    "EZBATCH_LOCAL_RUNNER": ("local_runner", _runner),
    "EZBATCH_LOCAL_S3": ("local_s3", _path),
    "EZBATCH_LOCAL_S3_STORE": ("local_s3_store", _s3_store),
    "EZBATCH_LOCAL_VCPUS": ("local_vcpus", _number(float)),
    "EZBATCH_LOCAL_MEMORY": ("local_memory", _number(int)),
    "EZBATCH_LOCAL_CONTAINER_ARGS": ("local_container_args", _words),
}

#: The keys of [tool.ezbatch] in pyproject.toml and of [ezbatch] in the user's file.
_KEYS: dict[str, tuple[str, _Reader]] = {
    "queue": ("queue", _text),
    "profile": ("profile", _text),
    "region": ("region", _text),
    "execution-role": ("execution_role", _text),
    "task-role": ("task_role", _text),
    "sse": ("sse", _text),
    "sse-kms-key-id": ("sse_kms_key_id", _text),
    "staging": ("staging", _staging),
    "state-directory": ("state_directory", _path),
    "local-runner": ("local_runner", _runner),
    "local-s3": ("local_s3", _path),
    "local-s3-store": ("local_s3_store", _s3_store),
    "local-vcpus": ("local_vcpus", _number(float)),
    "local-memory": ("local_memory", _number(int)),
    "local-container-args": ("local_container_args", _words),
}

#: The keys of ezbatch 0.1.0's [Settings] that mean something here; its others belong to commands, not to jobs.
_LEGACY_KEYS: dict[str, tuple[str, _Reader]] = {
    "executionRoleArn": ("execution_role", _text),
    "taskRoleArn": ("task_role", _text),
    "sse": ("sse", _text),
    "sseKmsKeyId": ("sse_kms_key_id", _text),
}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: {error}. The file is not valid TOML: mend it there."
        raise SettingsError(message) from error
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}. Make it readable, or move it away."
        raise SettingsError(message) from error
    return data


def _table(table: object, where: str) -> Mapping[str, object]:
    if not isinstance(table, Mapping):
        message = f"{where} must be a table of settings, not {table!r}."
        raise SettingsError(message)
    return table


def _read_table(table: object, keys: Mapping[str, tuple[str, _Reader]], where: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in _table(table, where).items():
        if key not in keys:
            message = f"{where}: {key!r} is not a setting{nearest(key, keys)}; the settings are {', '.join(keys)}."
            raise SettingsError(message)
        name, read = keys[key]
        values[name] = read(value, f"{where}: {key}")
    return values


def _user_path(env: Mapping[str, str]) -> Path | None:
    if env.get("EZBATCH_CONFIG"):
        return Path(env["EZBATCH_CONFIG"])
    try:
        return Path(env.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "ezbatch.toml"
    except RuntimeError:  # no home directory: then there is no file in it either
        return None


def _user_file(env: Mapping[str, str]) -> tuple[dict[str, object], str]:
    path = _user_path(env)
    if path is None or not path.is_file():
        return {}, ""
    data = _read_toml(path)
    legacy = _table(data.get("Settings", {}), f"{path}, [Settings]")
    known = {key: value for key, value in legacy.items() if key in _LEGACY_KEYS and value != ""}
    values = _read_table(known, _LEGACY_KEYS, f"{path}, [Settings]")
    values.update(_read_table(data.get("ezbatch", {}), _KEYS, f"{path}, [ezbatch]"))
    return values, str(path)


def remember(values: Mapping[str, str], environment: Mapping[str, str] | None = None) -> Path:
    """Write settings into the ``[ezbatch]`` table of the user's file; all else in it stays as it is, comments too.

    Parameters
    ----------
    values : mapping of str to str
        By the names of the file, such as ``queue`` and ``execution-role``.
    environment : mapping of str to str, optional
        Instead of the process's own.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SettingsError
        If the file cannot be read or written, or holds what cannot be changed line by line: it is then as it was.
    """
    path = _user_path(os.environ if environment is None else environment)
    if path is None:
        raise SettingsError("there is no home directory to keep settings in. Set EZBATCH_CONFIG to a file.")
    path = path.resolve()  # a link to a file in somebody's dotfiles stays one
    before = _read_toml(path) if path.is_file() else {}
    text = _changed(path.read_text(encoding="utf-8") if path.is_file() else "", values)
    wanted = {**before, "ezbatch": {**_table(before.get("ezbatch", {}), f"{path}, [ezbatch]"), **values}}
    try:
        fits = tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        fits = False
    if not fits:
        lines = ", ".join(f'{key} = "{value}"' for key, value in values.items())
        raise SettingsError(
            f"{path} is written in a way that cannot be changed line by line. Add to [ezbatch]: {lines}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside it and moved over it: an interrupt leaves the old file or the new one.
        draft = path.with_name(f"{path.name}.{os.getpid()}.new")
        draft.write_text(text, encoding="utf-8")
        if path.exists():
            draft.chmod(path.stat().st_mode & 0o777)
        draft.replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Make it writable.") from error
    return path


def _changed(text: str, values: Mapping[str, str]) -> str:
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if re.match(r"\s*\[\s*ezbatch\s*\]", line)), None)
    if start is None:
        lines += [*([""] if lines and lines[-1].strip() else []), "[ezbatch]"]
        start = len(lines) - 1
    end = next((n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    for key, value in values.items():
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        line = f'{key} = "{quoted}"'
        found = next((n for n in range(start + 1, end) if re.match(rf"\s*{re.escape(key)}\s*=", lines[n])), None)
        if found is not None:
            lines[found] = line
        else:
            lines.insert(end, line)
            end += 1
    return "\n".join(lines) + "\n"


def _project_file(directory: Path | None) -> tuple[dict[str, object], str]:
    try:
        start = directory or Path.cwd()
    except OSError:  # the working directory was removed
        return {}, ""
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            table = _table(_read_toml(path).get("tool", {}), f"{path}, [tool]").get("ezbatch", {})
            return _read_table(table, _KEYS, f"{path}, [tool.ezbatch]"), str(path)
    return {}, ""
