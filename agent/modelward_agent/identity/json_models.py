"""JSON files beside weights that say what the weights are: of Hugging Face's libraries, and the indexes of sharded models."""

from __future__ import annotations

from modelward_agent.identity import dtypes
from modelward_agent.identity.header import Draft, HeaderError, Reader, member, parse_json, text

_MOST = 16 << 20
_INDEX = ".index.json"


def json_format(file_name: bytes) -> str:
    """Format of a JSON file that belongs to a model, by its name; empty for any other."""
    if file_name == b"config.json":
        return "transformers"
    if file_name == b"adapter_config.json":
        return "peft"
    if file_name.endswith(_INDEX.encode()):
        return "torch" if file_name.endswith(b".bin.index.json") else "safetensors"
    return ""


def read_json_model(reader: Reader, head: bytes, draft: Draft) -> None:
    """Raises HeaderError, ValueError and RecursionError."""
    if reader.size > _MOST:
        raise HeaderError("the file is too large")
    told = parse_json(reader.at(0, reader.size))
    if draft.format == "transformers":
        _config(told, draft)
    elif draft.format == "peft":
        draft.base = _own_name(member(told, "base_model_name_or_path"), keep=True)
        draft.revision = text(member(told, "revision"))
        draft.architecture = text(member(told, "peft_type"))
    else:
        _index(told, draft)


def _config(told: object, draft: Draft) -> None:
    kinds = member(told, "architectures")
    draft.architecture = text(kinds[0]) if isinstance(kinds, list) and kinds else ""
    for key in ("_class_name", "model_type"):
        draft.architecture = draft.architecture or text(member(told, key))
    if not draft.architecture:
        draft.format = "unknown"
        return
    draft.name = _own_name(member(told, "_name_or_path"))
    draft.quantization = _quantization(member(told, "quantization_config"))
    for key in ("dtype", "torch_dtype"):
        draft.quantization = draft.quantization or dtypes.TORCH.get(text(member(told, key)).removeprefix("torch."), "")


def _own_name(value: object, *, keep: bool = False) -> str:
    """A repository's name. A local path is none, as it tells where somebody's files lay; its last part may be kept."""
    name = text(value)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name:
        return name.rstrip("/\\").replace("\\", "/").rpartition("/")[2] if keep else ""
    return name


def _quantization(told: object) -> str:
    method = text(member(told, "quant_method"))
    if method.startswith("bitsandbytes") or (not method and member(told, "load_in_4bit") is True):
        if member(told, "load_in_4bit") is True:
            return f"bitsandbytes-{text(member(told, 'bnb_4bit_quant_type')) or '4bit'}"
        return "bitsandbytes-8bit"
    bits = member(told, "bits")
    return f"{method}-{bits}bit" if method and isinstance(bits, int) and 0 < bits <= 64 else method


def _index(told: object, draft: Draft) -> None:
    shards = member(told, "weight_map")
    if not isinstance(shards, dict):
        raise HeaderError("the index is damaged")
    for name in shards.values():
        if isinstance(name, str):
            draft.refer(name)
    draft.shards = len(draft.references)
