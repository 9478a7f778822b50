"""Whether a file is a model, by what it holds and not by what it is called.

Stricter than the reading of what is known to be an artifact: a wrong yes begins a load that is none. A zip archive is a model by
its members; a pickle by the names that it looks up, for caches and sessions are pickles too; an HDF5 file by Keras' attributes.
Not told are pickles of protocols 0 and 1, which begin with no sign, arrays (.npy, .npz), and raw weights that another file
describes.
"""

from __future__ import annotations

import struct

from modelward_agent.identity.compression import is_compressed, unpack
from modelward_agent.identity.formats import read_facts
from modelward_agent.identity.header import Budget, Cursor, Facts, Reader, Unpacked
from modelward_agent.identity.pickle_scan import PickleScan
from modelward_agent.identity.pickles import is_pickle

LEAST = 16
"""Bytes of the smallest file that is looked at, as in the kernel side: a pickle that does harm is not much longer."""
_HEAD = 4096
_PACKED = 65536
_READ, _STEPS = 16 << 20, 300_000
_PICKLES = 4
"""So many may lie one after another before the model: an old torch file has three."""

_SURE = frozenset((
    "gguf", "ggml", "tflite", "tensorrt", "catboost", "keras", "torch", "torchscript", "torch_export", "torchserve",
))  # fmt: skip
_FRAMEWORKS = frozenset((
    "autogluon", "catboost", "diffusers", "fasttext", "flair", "gensim", "imblearn", "joblib", "keras", "lightgbm", "onnx",
    "onnxruntime", "peft", "pmdarima", "prophet", "sentence_transformers", "sklearn", "skops", "spacy", "statsmodels",
    "tensorflow", "thinc", "timm", "tokenizers", "torch", "torchvision", "transformers", "ultralytics", "xgboost",
))  # fmt: skip
"""Packages whose classes stand in models."""
_CODE = frozenset((
    "_posixsubprocess", "asyncio", "bdb", "cloudpickle", "code", "codeop", "commands", "ctypes", "dill", "importlib", "marshal",
    "nt", "os", "pdb", "pip", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys", "timeit", "webbrowser",
))  # fmt: skip
_CODE_BUILT_IN = frozenset((
    "__import__", "apply", "compile", "delattr", "eval", "exec", "execfile", "getattr", "open", "setattr",
))  # fmt: skip
"""What no data look up: whatever else such a pickle is, to load it runs what it says."""


def recognise(fd: int, size: int) -> str:
    """The format of the model that an open file holds; empty when it is none. Reads a bounded part, and unpickles nothing."""
    budget = Budget(_READ, _STEPS)
    reader = Reader(fd, size, budget)
    try:
        head = reader.at(0, min(size, _HEAD))
        if is_compressed(head):
            data = unpack(head, reader.at(0, min(size, _PACKED)), _PACKED, budget)
            return _of_pickle(Unpacked(data, budget)) if is_pickle(data) else ""
        if is_pickle(head):
            return _of_pickle(reader)
    except (OSError, ValueError):
        return ""
    # Without a name: an ending must not make a model of anything here.
    return _of_facts(read_facts(fd, size, b"", budget), head, size)


def _of_facts(facts: Facts, head: bytes, size: int) -> str:
    if facts.format == "safetensors":
        told = len(head) >= 8 and struct.unpack_from("<Q", head)[0] + 8 <= size
    elif facts.format == "onnx":
        # Other protocol buffers may begin alike; none of them holds tensors.
        told = bool(facts.quantization)
    elif facts.format in ("xgboost", "lightgbm", "skops"):
        told = bool(facts.architecture)
    else:
        told = facts.format in _SURE
    return facts.format if told else ""


def _of_pickle(reader: Reader) -> str:
    scan = PickleScan(Cursor(reader))
    try:
        for _ in range(_PICKLES):
            scan.run()
    except (OSError, ValueError):
        # Damaged, cut off, or what follows is no pickle: what it looked up so far says what it is.
        pass
    packages = {name.partition(".")[0] for name in scan.names}
    if "torch" in packages:
        return "torch"
    if "joblib" in packages:
        return "joblib"
    return "pickle" if packages & (_FRAMEWORKS | _CODE) or any(map(_runs_code, scan.names)) else ""


def _runs_code(name: str) -> bool:
    module, _, function = name.partition(".")
    return module in ("builtins", "__builtin__") and function in _CODE_BUILT_IN
