"""Speed of one training step against the plain one, written from the paper, in one run: `python benchmarks/train_step.py [--size 128]`."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline import params
from pipeline.models.cyclegan import Batch, CycleGAN
from tests.models.test_cyclegan import reference_update


def seconds(step: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of `step` after one that warms up."""
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--width", type=int, default=64, help="feature maps of the generators' first layer")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    of = params.load()
    model = of.model.model_copy(update={"generator": "resnet_9", "generator_width": asked.width, "discriminator_width": asked.width})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.rand(2, asked.batch, 1, asked.size, asked.size, device=device) * 2 - 1
    batch = Batch(images[0], images[1], torch.eye(4, device=device)[:1].repeat(asked.batch, 1))
    networks = CycleGAN(model, of.train, device)
    random = torch.Generator()

    def fast(bfloat16: bool) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            networks.step(batch, None, random)

    plain = seconds(lambda: reference_update(networks, batch), device, asked.repeats)
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"resnet_9 width {asked.width}, {asked.size}x{asked.size}, batch {asked.batch}")
    print(f"{'step':24}{'seconds':>10}{'pairs/s':>10}{'ratio':>8}")
    rows = {"plain float32": plain}
    rows["batched float32"] = seconds(lambda: fast(False), device, asked.repeats)
    if device.type == "cuda":
        rows["batched bfloat16"] = seconds(lambda: fast(True), device, asked.repeats)
    for name, taken in rows.items():
        print(f"{name:24}{taken:10.3f}{asked.batch / taken:10.2f}{plain / taken:8.2f}")


if __name__ == "__main__":
    main()
