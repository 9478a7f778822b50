"""The configuration of a Keras model, which its archive and its HDF5 file hold alike."""

from __future__ import annotations

import re

from modelward_agent.identity.header import Draft, member, text

_GENERIC = re.compile(r"(?:model|sequential|functional)(?:_\d+)?\Z")
"""Names that Keras gives to models that were given none."""


def read_config(config: object, draft: Draft) -> None:
    """Name and class of the model, and its quantisation where it has one."""
    kind, module = text(member(config, "class_name")), text(member(config, "module"))
    registered = text(member(config, "registered_name"))
    # A class of the user's has the name it was registered under, "package>name"; one of Keras has its module.
    draft.architecture = registered if ">" in registered else f"{module}.{kind}".strip(".")
    name = text(member(config, "config", "name"))
    draft.name = "" if _GENERIC.match(name) else name
    policy = text(member(config, "config", "dtype", "config", "name"))
    draft.quantization = policy if policy.startswith(("int8", "int4", "float8", "gptq")) else ""
