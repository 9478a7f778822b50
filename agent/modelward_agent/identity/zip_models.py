"""Models that are zip archives: torch, Keras, skops and others keep theirs so, told apart by the names of the members."""

from __future__ import annotations

import re

from modelward_agent.identity.header import Draft, Reader, member, parse_json, text
from modelward_agent.identity.keras_config import read_config
from modelward_agent.identity.pickle_scan import PickleScan
from modelward_agent.identity.pickle_values import class_of
from modelward_agent.identity.zip_directory import Archive

_JSON = 8 << 20
_PICKLE = 4 << 20
_EXPORTED = re.compile(rb'"nn_module_stack": *"[^,"]*,[^,"]*,([\w.]+)')
_SCHEMA = 65536
_SKOPS = {name: re.compile(rb'"%b": *"([^"\\]{1,256})"' % name.encode()) for name in ("__module__", "__class__")}
_SCRIPT = re.compile(r"__torch__\.|___torch_mangle_\d+\.")


def read_zip(reader: Reader, head: bytes, draft: Draft) -> None:
    """Which of the formats that are zip archives it is, and what it says. Raises HeaderError, ValueError and struct.error."""
    archive = Archive(reader)
    names = archive.entries
    last: dict[str, str] = {}
    for name in names:
        last.setdefault(name.rpartition("/")[2], name)
    if "archive_format" in last or "serialized_exported_program.json" in last:
        draft.format = "torch_export"
        _torch_export(archive, draft)
    elif "data.pkl" in last:
        draft.format = "torchscript" if "constants.pkl" in last else "torch"
        _torch(archive, last["data.pkl"], draft)
    elif {"config.json", "metadata.json", "model.weights.h5"} <= names.keys():
        draft.format = "keras"
        draft.revision = text(member(parse_json(archive.read("metadata.json", _JSON)), "model_version"))
        read_config(parse_json(archive.read("config.json", _JSON)), draft)
    elif "MAR-INF/MANIFEST.json" in names:
        draft.format = "torchserve"
        model = member(parse_json(archive.read("MAR-INF/MANIFEST.json", _JSON)), "model")
        draft.name, draft.revision = text(member(model, "modelName")), text(member(model, "modelVersion"))
    elif "schema.json" in names:
        draft.format = "skops"
        draft.architecture = _skops(archive.read("schema.json", _SCHEMA))
    elif names and all(name.endswith(".npy") for name in names):
        draft.format = "numpy"


def _skops(schema: bytes) -> str:
    """Class of the object that all others lie in: it is described first. A forest's schema is too large to be read as a whole."""
    found = [_SKOPS[name].search(schema) for name in ("__module__", "__class__")]
    return ".".join(each[1].decode("utf-8", "replace") for each in found if each)


def _torch(archive: Archive, name: str, draft: Draft) -> None:
    scan = PickleScan(archive.cursor(name, _PICKLE))
    try:
        found = class_of(scan.run())
    except ValueError:
        found = scan.so_far()
        raise
    finally:
        draft.architecture = _SCRIPT.sub("", found)


def _torch_export(archive: Archive, draft: Draft) -> None:
    """The class of the outermost module, which every operation of the graph carries along."""
    for name in archive.entries:
        folder, _, file = name.rpartition("/")
        if file == "serialized_exported_program.json" or (file.endswith(".json") and folder.rpartition("/")[2] == "models"):
            if found := _EXPORTED.search(archive.read(name, _JSON)):
                draft.architecture = found[1].decode("ascii")
            return
