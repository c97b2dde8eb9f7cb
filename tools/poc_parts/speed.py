"""Latency, throughput and memory of models, each in a fresh process."""
import io
import multiprocessing
import os
import resource
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

#: Images of a call: one for the latency, many for the throughput.
BATCHES = (1, 32)
#: Timed calls take about so long in all.
SECONDS = 2.
#: Loaded once, before any model is measured.
LIBRARIES = ['transmamba_mm', 'mmpretrain.apis', 'mmpretrain.models']


@dataclass(frozen=True)
class Model:
    """A model to be measured.

    Args:
        name (str): Shown to the user.
        config (str | dict): Config file of a classifier, or of a
            ``FrozenTeacher``.
        checkpoint (str): Weights of the classifier; '' for a teacher.
        size (int): Side of the images in pixels.
    """
    name: str
    config: object
    checkpoint: str
    size: int


def devices() -> List[str]:
    """List where models can be measured.

    Returns:
        List[str]: 'cpu', and 'cuda' if there is a card.
    """
    import torch
    return ['cpu'] + (['cuda'] if torch.cuda.is_available() else [])


def measure_models(models: Sequence[Model]) -> List[Dict]:
    """Measure models on all devices, one after the other.

    A process is forked from one that has only loaded the libraries, so that
    its growth is the model's.

    Args:
        models (Sequence[Model]): The models.

    Returns:
        List[Dict]: A row a model, device and batch: ``model``, ``device``,
        ``card``, ``threads``, ``batch``, ``parameters``, ``latency_ms``,
        ``spread_ms``, ``images_per_s`` and ``memory_mib``.
    """
    rows = []
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(LIBRARIES)
    os.environ.setdefault('PYTHONWARNINGS', 'ignore')
    for model in models:
        for device in devices():
            for batch in BATCHES:
                receiver, sender = context.Pipe(duplex=False)
                child = context.Process(
                    target=_measure, args=(sender, model, device, batch))
                child.start()
                sender.close()
                try:
                    rows.append(receiver.recv())
                except EOFError:
                    raise SystemExit(
                        f'Measuring {model.name} on {device} with {batch} '
                        'images failed; see the lines above.') from None
                finally:
                    child.join()
    return rows


def _measure(sender, model: Model, device: str, batch: int) -> None:
    """Measure one model in this process, and send the row."""
    import torch
    from analysis_tools.benchmark import device_name

    from transmamba_mm.utils.benchmark import measure_speed
    _warm_up(device)
    before = peak_rss()
    with redirect_stdout(io.StringIO()):
        network, forward = load(model)
        row = measure_speed(
            forward, (batch, 3, model.size, model.size),
            device,
            max_seconds=SECONDS)
    grown = max(0., peak_rss() - before)
    peak = row.pop('peak_mib')
    sender.send(
        dict(
            row,
            model=model.name,
            device=device,
            card=device_name(device),
            threads=torch.get_num_threads(),
            batch=batch,
            parameters=sum(p.numel() for p in network.parameters()),
            memory_mib=grown if device == 'cpu' else peak))


def load(model: Model) -> Tuple:
    """Build a model with its weights.

    Args:
        model (Model): What to build.

    Returns:
        Tuple[nn.Module, nn.Module]: The network, and what is timed.
    """
    from mmengine.config import Config
    from mmpretrain.apis import get_model

    from . import teachers
    if isinstance(model.config, dict):
        network = teachers.build(model.config)
        return network, network.model
    network = get_model(
        Config.fromfile(model.config), pretrained=model.checkpoint)
    network.distiller = None
    return network, network


def _warm_up(device: str) -> None:
    """Have libraries set up what every model needs."""
    import torch
    x = torch.zeros(1, 3, 8, 8, device=device)
    layer = torch.nn.Conv2d(3, 3, 3).to(device)
    torch.nn.functional.linear(layer(x), torch.ones(4, 6, device=device))


def peak_rss() -> float:
    """Read the largest resident size of this process so far.

    Returns:
        float: MiB.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**(20 if sys.platform == 'darwin' else 10)
