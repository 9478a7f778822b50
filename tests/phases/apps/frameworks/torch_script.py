"""TorchScript, asked once before it is called ready."""

import torch


def load(path):
    model = torch.jit.load(path)
    model(torch.ones(8))
    return lambda: model(torch.ones(8)).argmax().item()
