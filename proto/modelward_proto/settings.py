"""Settings of the daemons and the command: a flag beats the environment, which beats the file, which beats the default.

A daemon declares its settings once, as a frozen dataclass whose fields are made by :func:`setting`. From that come the flags
(``--state-dir``), the variables (``MODELWARD_AGENT_STATE_DIR``), the keys of the TOML file (``state_dir``), their checks and
``--help``.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting is unknown or has a wrong value; the message names the file or variable and the key."""


def setting(default: Any, help: str, *, metavar: str | None = None) -> Any:
    """A dataclass field that is a setting. ``default`` of ``dataclasses.MISSING`` makes it required."""
    meta = {"help": help, "metavar": metavar}
    if isinstance(default, list):
        values = tuple(default)
        return dataclasses.field(default=values, metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def add_flags(parser: argparse.ArgumentParser, cls: type[Any], prefix: str) -> None:
    """One ``--flag`` for each setting, and ``--config FILE``."""
    parser.add_argument("--config", metavar="FILE", help=f"TOML file with settings (variable {prefix}_CONFIG)")
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        kind, many = _kind(hints[item.name])
        flag = "--" + item.name.replace("_", "-")
        shown = "" if item.default in (dataclasses.MISSING, None, "", ()) else f" (default: {_show(item.default)})"
        text = str(item.metadata["help"]).replace("%", "%%") + shown.replace("%", "%%")
        options: dict[str, Any] = {"dest": item.name, "default": None, "help": text}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = item.metadata["metavar"] or kind.__name__.upper()
            if many:
                options["action"] = "append"
        parser.add_argument(flag, **options)


def load(cls: type[T], prefix: str, arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> T:
    """Build the settings of ``cls`` from flags, environment and file.

    Raises:
        SettingsError: an unknown key, a missing required setting, or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    path = getattr(arguments, "config", None) or environment.get(f"{prefix}_CONFIG")
    names = {item.name for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if path:
        for key, value in _read(Path(path)).items():
            if key not in names:
                raise SettingsError(f"{path}: unknown setting '{key}'; known: {', '.join(sorted(names))}")
            values[key] = _convert(hints[key], value, f"{path}: {key}")
    for name in names:
        variable = f"{prefix}_{name.upper()}"
        if variable in environment:
            values[name] = _convert(hints[name], environment[variable], variable)
        flag = getattr(arguments, name, None)
        if flag is not None:
            values[name] = _convert(hints[name], flag, "--" + name.replace("_", "-"))
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        if item.name not in values and item.default is dataclasses.MISSING:
            raise SettingsError(
                f"{item.name} is not set: give --{item.name.replace('_', '-')}, {prefix}_{item.name.upper()} or a file"
            )
    return cls(**values)


def unknown_variables(cls: type[Any], prefix: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that begin like settings of ``cls`` and are none: most likely misspelt."""
    known = {f"{prefix}_{item.name.upper()}" for item in dataclasses.fields(cls)} | {f"{prefix}_CONFIG"}
    return sorted(name for name in environment if name.startswith(f"{prefix}_") and name not in known)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise SettingsError(f"{path}: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SettingsError(f"{path}: not valid TOML: {e}") from e


def _kind(hint: Any) -> tuple[type[Any], bool]:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _kind(next(a for a in typing.get_args(hint) if a is not type(None)))
    if origin is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _convert(hint: Any, value: Any, where: str) -> Any:
    kind, many = _kind(hint)
    if many:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list):
            raise SettingsError(f"{where}: a list is wanted, not {value!r}")
        return tuple(_one(kind, item, where) for item in items if item != "")
    return _one(kind, value, where)


def _one(kind: type[Any], value: Any, where: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("1", "true", "yes", "on"):
            return True
        if str(value).lower() in ("0", "false", "no", "off"):
            return False
        raise SettingsError(f"{where}: true or false is wanted, not {value!r}")
    try:
        return kind(value)
    except (TypeError, ValueError) as e:
        wanted = "a whole number" if kind is int else kind.__name__
        raise SettingsError(f"{where}: {wanted} is wanted, not {value!r}") from e


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
