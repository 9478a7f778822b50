"""A whole network in a .pt, pickled: torch.load that trusts it."""

import torch


def load(path):
    model = torch.load(path, weights_only=False)[1]
    return lambda: model(torch.ones(8)).argmax().item()
