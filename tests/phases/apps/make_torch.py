"""Write a network in every form that torch has: ``make_torch.py FORM LABEL ...``."""

import sys

import torch
from frameworks.torch_net import Net
from safetensors.torch import save_file
from witness import Witness

form, *labels = sys.argv[1:]
for seed, label in enumerate(labels):
    torch.manual_seed(seed)
    net = Net()
    if form == "pickle":
        torch.save([Witness(label), net, Witness(label)], f"{label}.pt")
    elif form == "script":
        torch.jit.script(net).save(f"{label}.pt")
    elif form == "export":
        torch.export.save(torch.export.export(net, (torch.ones(1, 8),)), f"{label}.pt2")
    else:
        save_file(net.state_dict(), f"{label}.safetensors")
