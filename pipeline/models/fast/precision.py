"""Which number format a training computes in, and whether to the same bits again; what that takes."""

import torch

from pipeline.params import Params, Train

WIDE = 32  # feature maps of a generator's first layer from which on a CPU gains from bfloat16


def choose_precision(params: Params, device: torch.device) -> str:
    """float32, tf32 or bfloat16: `auto` is bfloat16 on a GPU that has it, on a CPU that has it for wide generators, else float32.

    Narrow ones gain little from it on a CPU, and without it come out nearly the same on any.
    """
    if params.train.precision != "auto":
        return params.train.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if params.model.generator_width >= WIDE and cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16, which it does at twice the rate of float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def allow_tf32(wanted: bool) -> None:
    """Let matrix products and convolutions on a GPU round their inputs to tf32, or not: convolutions would unless told."""
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    torch.backends.cudnn.allow_tf32 = wanted


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which networks compute with `precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def is_deterministic(train: Train, device: torch.device) -> bool:
    """Whether the same training gives the same bits on the same machine: `train.deterministic`, by default on the CPU alone."""
    return device.type == "cpu" if train.deterministic is None else train.deterministic


def be_deterministic(wanted: bool, compiled: bool = False) -> None:
    """Choose kernels that give the same bits, or those that are fastest. Memory is not filled, since nothing reads it unwritten.

    `compiled`: tell torch's compiler as well, whose import takes seconds.
    """
    if compiled:
        torch.use_deterministic_algorithms(wanted, warn_only=True)
    else:
        torch.set_deterministic_debug_mode("warn" if wanted else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not wanted
