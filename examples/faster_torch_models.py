"""PyTorch models made faster
==========================

Networks with PReLU, written from their papers in plain torch, trained with and without fastact.

    python examples/faster_torch_models.py [--batch 8] [--steps 30] [--threads 1] [--network mobilefacenet] [--float64]

Without `--network` MobileFaceNet and Conv-TasNet are trained.  `--network arcface_r50` takes some minutes.

The networks import nothing of fastact.  `with fastact.torch.enabled():` around the training step is the only change.
Steps with torch's own PReLU, with fastact's and with ReLU in PReLU's place (which is as fast as an activation can get)
take turns, each on a copy of the model of its own; the losses are compared.

With two images the losses of MobileFaceNet say nothing in float32: its BatchNorm over two numbers gives about +1 and
-1, whatever they are, and the rounding errors grow a thousandfold with each step.  torch's own differ by 1e-2 after
three steps when its number of threads changes.  `--float64` shows that the gradients are the same.

MobileFaceNet: Chen, Liu, Gao, Han 2018 (arXiv 1804.07573).  Conv-TasNet: Luo, Mesgarani 2019 (arXiv 1809.07454).
ArcFace's network of 50 layers: Deng, Guo, Xue, Zafeiriou 2019 (arXiv 1801.07698, section 3.1).
"""

import argparse
import contextlib
import copy
import statistics
import time

import torch
from torch import nn

import fastact.torch


def conv(inputs, outputs, kernel=1, stride=1, groups=1, linear=False):
    """A convolution with batch norm and, unless it is linear, a PReLU with a slope for each channel."""
    padding = kernel // 2 if kernel < 7 else 0
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([] if linear else [nn.PReLU(outputs)]))


class Bottleneck(nn.Module):
    """MobileFaceNet's inverted residual."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        inside = inputs * expansion
        self.body = nn.Sequential(
            conv(inputs, inside), conv(inside, inside, 3, stride, groups=inside), conv(inside, outputs, linear=True)
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.adds else self.body(x)


def mobilefacenet():
    """Faces of 112x112 to 128 numbers: table 1 of the paper."""
    layers, channels = [conv(3, 64, 3, 2), conv(64, 64, 3, groups=64)], 64
    for expansion, outputs, repeats, stride in (
        (2, 64, 5, 2),
        (4, 128, 1, 2),
        (2, 128, 6, 1),
        (4, 128, 1, 2),
        (2, 128, 2, 1),
    ):
        for i in range(repeats):
            layers.append(Bottleneck(channels, outputs, stride if i == 0 else 1, expansion))
            channels = outputs
    layers += [conv(128, 512), conv(512, 512, 7, groups=512, linear=True), conv(512, 128, linear=True)]
    return nn.Sequential(*layers, nn.Flatten())


class Block(nn.Module):
    """Conv-TasNet's 1-D convolutional block; each PReLU has one slope."""

    def __init__(self, channels, inside, dilation):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, inside, 1),
            nn.PReLU(),
            nn.GroupNorm(1, inside),
            nn.Conv1d(inside, inside, 3, padding=dilation, dilation=dilation, groups=inside),
            nn.PReLU(),
            nn.GroupNorm(1, inside),
        )
        self.residual, self.skip = nn.Conv1d(inside, channels, 1), nn.Conv1d(inside, channels, 1)

    def forward(self, x):
        y = self.body(x)
        return x + self.residual(y), self.skip(y)


class ConvTasNet(nn.Module):
    """Two voices apart: N=512, L=16, B=Sc=128, H=512, P=3, X=8, R=3."""

    def __init__(self, blocks=8, repeats=3):
        super().__init__()
        self.encoder, self.decoder = nn.Conv1d(1, 512, 16, 8), nn.ConvTranspose1d(512, 1, 16, 8)
        self.before = nn.Sequential(nn.GroupNorm(1, 512), nn.Conv1d(512, 128, 1))
        self.blocks = nn.ModuleList(Block(128, 512, 2**i) for _ in range(repeats) for i in range(blocks))
        self.masks = nn.Sequential(nn.PReLU(), nn.Conv1d(128, 2 * 512, 1), nn.Sigmoid())

    def forward(self, sound):
        code = self.encoder(sound)
        x, skips = self.before(code), 0
        for block in self.blocks:
            x, skip = block(x)
            skips = skips + skip
        voices = code.unsqueeze(1) * self.masks(skips).unflatten(1, (2, 512))
        return self.decoder(voices.flatten(0, 1)).unflatten(0, (-1, 2))


class ResidualUnit(nn.Module):
    """ArcFace's: normalise, convolve, PReLU, convolve; plus what came in, convolved where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), conv(inputs, outputs, 3), conv(outputs, outputs, 3, stride, linear=True)
        )
        same = stride == 1 and inputs == outputs
        self.around = nn.Identity() if same else conv(inputs, outputs, 1, stride, linear=True)

    def forward(self, x):
        return self.around(x) + self.body(x)


def arcface_r50():
    """Faces of 112x112 to 512 numbers: 24 residual units."""
    layers, channels = [conv(3, 64, 3)], 64
    for outputs, repeats in ((64, 3), (128, 4), (256, 14), (512, 3)):
        for i in range(repeats):
            layers.append(ResidualUnit(channels, outputs, 2 if i == 0 else 1))
            channels = outputs
    layers += [nn.BatchNorm2d(512), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)]
    return nn.Sequential(*layers)


NETWORKS = {
    "mobilefacenet": (mobilefacenet, lambda batch: torch.randn(batch, 3, 112, 112)),
    "convtasnet": (ConvTasNet, lambda batch: torch.randn(batch, 1, 8000)),
    "arcface_r50": (arcface_r50, lambda batch: torch.randn(batch, 3, 112, 112)),
}
SHORT = ("mobilefacenet", "convtasnet")  # what is trained if nobody chooses


def with_relu(model):
    """The model with ReLU in PReLU's place."""
    for name, child in model.named_children():
        setattr(model, name, nn.ReLU()) if isinstance(child, nn.PReLU) else with_relu(child)
    return model


def compare(network, batch, steps, dtype=torch.float32):
    """Seconds of a training step, and the losses of all steps, of each contestant."""
    make, data = NETWORKS[network]
    torch.manual_seed(0)
    model = make().to(dtype)
    x = data(batch).to(dtype)
    contestants = {
        "torch": (copy.deepcopy(model), contextlib.nullcontext),
        "fastact": (copy.deepcopy(model), fastact.torch.enabled),
        "relu": (with_relu(copy.deepcopy(model)), contextlib.nullcontext),
    }
    optimizers = {name: torch.optim.SGD(model.parameters(), 1e-3) for name, (model, _) in contestants.items()}
    times, losses = ({name: [] for name in contestants} for _ in range(2))
    for _ in range(steps):
        for name, (model, block) in contestants.items():
            with block():
                start = time.perf_counter()
                loss = model(x).square().mean()
                optimizers[name].zero_grad()
                loss.backward()
                optimizers[name].step()
                times[name].append(time.perf_counter() - start)
            losses[name].append(loss.item())
    return {name: statistics.median(all_) for name, all_ in times.items()}, losses


def main(arguments=None):
    """Print a table; what `compare` found for each network."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--float64", action="store_true")
    options = parser.parse_args(arguments)
    dtype = torch.float64 if options.float64 else torch.float32
    torch.set_num_threads(options.threads)
    found = {}
    for network in options.network or SHORT:
        seconds, losses = found[network] = compare(network, options.batch, options.steps, dtype)
        times = ", ".join(f"{all_ * 1e3:.0f}" for all_ in seconds.values())
        saved = (seconds["torch"] - seconds["fastact"]) / (seconds["torch"] - seconds["relu"])
        worst = max(abs(a / b - 1) for a, b in zip(losses["torch"], losses["fastact"], strict=True))
        print(
            f"{network}, batch {options.batch}, {options.threads} threads: ms of a step with torch's PReLU, fastact's "
            f"and ReLU: {times}; {seconds['torch'] / seconds['fastact']:.2f} x, {saved:.0%} of what ReLU would save; "
            f"losses differ by {worst:.0e} of their value"
        )
    return found


if __name__ == "__main__":
    main()
