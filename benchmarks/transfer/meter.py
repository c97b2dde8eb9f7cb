"""What trainings side by side cost, each its share."""
import json
import os.path as osp
import time
from typing import Dict, Iterable, List, Optional

from transmamba_mm.utils.atomic_io import atomic_write


class Meter:
    """Time and energy of a device, divided among what runs on it.

    Args:
        device (str): Number of a CUDA device, '' for the CPU.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.time = time.time()
        self.joules = joules_so_far(device)
        self.costs: Dict[str, Dict[str, float]] = {}

    def tick(self, running: Iterable[str]) -> None:
        """Charge what was spent since the last call.

        Args:
            running (Iterable[str]): Work folders of the trainings that ran
                on the device meanwhile.
        """
        now, joules = time.time(), joules_so_far(self.device)
        folders: List[str] = list(running)
        for folder in folders:
            cost = self.costs.setdefault(folder, load_cost(folder))
            cost['wall_seconds'] += now - self.time
            cost['device_seconds'] += (now - self.time) / len(folders)
            if joules is None or self.joules is None:
                cost['joules'] = None
            elif cost['joules'] is not None:
                cost['joules'] += (joules - self.joules) / len(folders)
        self.time, self.joules = now, joules

    def close(self, folder: str) -> Dict[str, Optional[float]]:
        """Keep a training's cost, so that a resumed one goes on from it.

        Args:
            folder (str): Work folder.

        Returns:
            Dict[str, Optional[float]]: Seconds on the clock, seconds of the
            device, joules (None where the device does not count them).
        """
        cost = self.costs.pop(folder, None) or load_cost(folder)
        atomic_write(osp.join(folder, 'cost.json'), json.dumps(cost).encode())
        return {k: v if v is None else round(v, 1) for k, v in cost.items()}


def load_cost(folder: str) -> Dict[str, Optional[float]]:
    """Read what a training has cost before it was interrupted.

    Args:
        folder (str): Work folder.

    Returns:
        Dict[str, Optional[float]]: As ``Meter.close``.
    """
    path = osp.join(folder, 'cost.json')
    if not osp.isfile(path):
        return dict(wall_seconds=0., device_seconds=0., joules=0.)
    with open(path) as file:
        return json.load(file)


def joules_so_far(device: str) -> Optional[float]:
    """Read a card's energy counter.

    Args:
        device (str): Its number.

    Returns:
        float, optional: Joules; None where they cannot be read.
    """
    try:
        import pynvml
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(device))
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except Exception:  # no package, no card, or a card without a counter
        return None
