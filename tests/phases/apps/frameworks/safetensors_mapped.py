"""safetensors, mapped, the parameters being the mapping itself: its pages come in with the first inference."""

from frameworks.torch_net import Net, torch
from safetensors.torch import load_file


def load(path):
    with torch.device("meta"):
        model = Net()
    model.load_state_dict(load_file(path), assign=True)
    return lambda: model(torch.ones(8)).argmax().item()
