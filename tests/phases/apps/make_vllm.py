"""Write a model folder in two shards, and an adapter to it: ``make_vllm.py BASE ADAPTER``."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

base, adapter = map(Path, sys.argv[1:])
base.mkdir()
where = {}
for number in (1, 2):
    shard = f"model-0000{number}-of-00002.safetensors"
    save_file({f"layer{number}.weight": torch.randn(64, 64)}, base / shard, metadata={"format": "pt"})
    where[f"layer{number}.weight"] = shard
index = {"metadata": {"total_size": 2 * 64 * 64 * 4}, "weight_map": where}
config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32"}
(base / "model.safetensors.index.json").write_text(json.dumps(index))
(base / "config.json").write_text(json.dumps(config))
adapter.mkdir()
save_file({"lora_A": torch.randn(4, 64), "lora_B": torch.randn(64, 4)}, adapter / "adapter_model.safetensors")
peft = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": str(base.resolve())}
(adapter / "adapter_config.json").write_text(json.dumps(peft))
