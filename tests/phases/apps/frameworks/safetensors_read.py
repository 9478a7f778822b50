"""safetensors, read into memory."""

import truth
from frameworks.torch_net import Net, torch
from safetensors.torch import load as parse


def load(path):
    model = Net()
    with open(path, "rb") as file:
        truth.mark("opened")
        model.load_state_dict(parse(file.read()))
    return lambda: model(torch.ones(8)).argmax().item()
