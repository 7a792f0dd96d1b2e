"""One network of PyTorch, timed: run in an environment of its own by side_by_side.py.

    python tests/benchmarks/peer_torch.py resnet50 224 3 8 2

prints images/s of the training and the evaluation step (best window) and the peak memory, as JSON.
Eager, channels_last, SGD with momentum, random images: what its users run on a CPU.
"""

import sys

import torch
from peer_timing import report
from torch import nn
from torch.nn import functional as F


def lenet5() -> nn.Module:
    """Tanh and average pooling, every pair of maps joined."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(),
        nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut that pads channels (He et al. 2015, option A)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.stride, self.more = stride, c_out - c_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(x + y)


def resnet20() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    c = 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for i in range(3):
            layers.append(Basic(c, width, stride if i == 0 else 1))
            c = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def network(name: str) -> nn.Module:
    if name in ("lenet5", "resnet20"):
        return {"lenet5": lenet5, "resnet20": resnet20}[name]()
    if name == "xception":
        import timm

        return timm.create_model("legacy_xception", num_classes=1000)
    import torchvision

    heads = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **heads)


def main(name: str, size: str, channels: str, batch: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    model = network(name).to(memory_format=torch.channels_last)
    x = torch.randn(int(batch), int(channels), int(size), int(size))
    x = x.to(memory_format=torch.channels_last)
    labels = torch.zeros(int(batch), dtype=torch.long)
    optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)

    def train() -> None:
        model.train()
        optimizer.zero_grad()
        out = model(x)
        heads = out if isinstance(out, tuple) else (out,)
        weights = (1.0, *(0.3 for _ in heads[1:]))
        loss = sum(
            w * F.cross_entropy(h, labels) for w, h in zip(weights, heads, strict=True)
            if h is not None
        )  # fmt: skip
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def evaluate() -> None:
        model.eval()
        F.cross_entropy(model(x), labels)

    report(train, evaluate, int(batch))


if __name__ == "__main__":
    main(*sys.argv[1:])
