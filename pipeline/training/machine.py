"""What training takes of the machine, under the names by which MLflow shows system metrics."""

import psutil
import torch

MIB = 2**20


def memory(device: torch.device) -> float:
    """MiB in use: of the GPU at most so far, else of this process now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return float(psutil.Process().memory_info().rss) / MIB


def use(device: torch.device) -> dict[str, float]:
    """CPU load since the last call in percent, and memory in MiB."""
    values = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_percentage": psutil.virtual_memory().percent,
        "system/training_memory_megabytes": memory(device),
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        values["system/gpu_0_memory_usage_percentage"] = 100 * (1 - free / total)
    return values
