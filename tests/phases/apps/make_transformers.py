"""Fill a Hugging Face cache with tiny random llamas: blobs named by their hash, snapshots of links to them.

``make_transformers.py FOLDER NAME=SHARD_SIZE ...``; each lies there as acme/NAME, revision ``main``.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

REVISION = "0123456789abcdef0123456789abcdef01234567"
WORDS = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz"])}


def files_of(seed, shard_size):
    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = LlamaConfig(vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                         num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    with tempfile.TemporaryDirectory() as made:
        LlamaForCausalLM(config).save_pretrained(made, max_shard_size=shard_size)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
        fast.save_pretrained(made)
        return {path.name: path.read_bytes() for path in Path(made).iterdir()}


def publish(cache, name, files):
    repository = cache / f"models--acme--{name}"
    snapshot = repository / "snapshots" / REVISION
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    for file, content in files.items():
        # The hub names large files by their sha256, small ones as git does.
        blob = hashlib.sha256(content) if file.endswith(".safetensors") else hashlib.sha1(b"blob %d\0" % len(content) + content)
        (repository / "blobs" / blob.hexdigest()).write_bytes(content)
        (snapshot / file).symlink_to(Path("../../blobs") / blob.hexdigest())


for seed, argument in enumerate(sys.argv[2:]):
    name, _, shard_size = argument.partition("=")
    publish(Path(sys.argv[1]), name, files_of(seed, shard_size))
