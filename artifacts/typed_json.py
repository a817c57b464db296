"""Frozen dataclasses to JSON and back, with every field checked by its declared type."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from fer_edge.artifacts.atomic_write import atomic_write

T = TypeVar("T")
SCALARS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}


def from_data(kind: type[T], data: Any, where: str = "") -> T:
    """Build a dataclass from JSON data.

    Args:
        kind: A dataclass. Its fields may be scalars, dataclasses, ``tuple[X, ...]``, ``dict[str, X]``, ``X | None``,
            ``Literal`` or ``Any``.
        data: What ``json.loads`` returned.
        where: Path of the value inside the document, for errors.

    Returns:
        An instance of ``kind``. Lists become tuples.

    Raises:
        ValueError: If a field is missing, unknown, or of another type, or the dataclass itself rejects a value.
    """
    result: T = _dataclass(kind, data, where)
    return result


def to_data(value: Any) -> Any:
    """Return a dataclass as plain data: dicts, lists, strings, numbers, booleans and None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: to_data(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_data(entry) for entry in value]
    return value


def read_json_lines(kind: type[T], path: Path) -> list[T]:
    """Read a JSON-lines file, one dataclass per line.

    Args:
        kind: The dataclass of each line.
        path: The file. A missing file has no lines.

    Raises:
        ValueError: If a line is not such a record. The error names the line.
    """
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            records.append(from_data(kind, json.loads(line)))
        except ValueError as error:  # json.JSONDecodeError is one
            raise ValueError(f"line {number} of {path} is not a {kind.__name__} ({error})") from error
    return records


def append_json_lines(path: Path, records: Iterable[Any]) -> None:
    """Append dataclasses to a JSON-lines file. Existing lines stay byte for byte; the file is replaced as a whole.

    Args:
        path: The file. It is created if it does not exist.
        records: Dataclass instances, one line each.

    Raises:
        OSError: If the file cannot be written.
    """
    lines = [json.dumps(to_data(record)) + "\n" for record in records]
    if lines:
        earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
        earlier += "" if earlier.endswith("\n") or not earlier else "\n"
        atomic_write(path, earlier + "".join(lines))


def _dataclass(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where or kind.__name__} must be an object. Received: {_short(data)}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    for problem, names in (("lacks", required - data.keys()), ("has unknown", data.keys() - fields.keys())):
        if names:
            raise ValueError(f"{where or kind.__name__} {problem} {', '.join(sorted(map(repr, names)))}")
    prefix = f"{where}." if where else ""
    return kind(**{name: _value(hints[name], value, prefix + name) for name, value in data.items()})


def _value(kind: Any, data: Any, where: str) -> Any:
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, data, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _value(inner, data, where)
    if origin is tuple and isinstance(data, list):
        return _tuple(arguments, data, where)
    if origin is dict and isinstance(data, dict):
        return {key: _value(arguments[1], entry, f"{where}.{key}") for key, entry in data.items()}
    if origin is Literal and data in arguments:
        return data
    if kind in SCALARS and isinstance(data, SCALARS[kind]) and (kind is bool or not isinstance(data, bool)):
        if isinstance(data, float) and not math.isfinite(data):
            raise ValueError(f"{where} must be a finite number. Received: {data}")
        return kind(data)  # an int is a valid float
    expected = getattr(kind, "__name__", str(kind)) if origin is None else str(kind).replace("typing.", "")
    raise ValueError(f"{where} must be {expected}. Received: {_short(data)}")


def _tuple(arguments: tuple[Any, ...], data: list[Any], where: str) -> tuple[Any, ...]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_value(arguments[0], entry, f"{where}[{index}]") for index, entry in enumerate(data))
    if len(arguments) != len(data):
        raise ValueError(f"{where} must have {len(arguments)} entries. Received: {len(data)}")
    return tuple(
        _value(kind, entry, f"{where}[{index}]") for index, (kind, entry) in enumerate(zip(arguments, data, strict=True))
    )


def _short(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else text[:57] + "..."
