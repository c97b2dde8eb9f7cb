"""A probe: a training that is shorter than the config's."""
import json
import subprocess
import sys
from pathlib import Path
from typing import Optional, Sequence

from mmengine.config import Config

from transmamba_mm.utils.derived_config import shorten_schedulers

TRAIN = Path(__file__).resolve().parents[2] / 'train.py'


class ProbeError(Exception):
    """A probe that gave no value; the message says why."""


def shorten(cfg: Config, epochs: int, hooks: Sequence[dict]) -> dict:
    """Squeeze a training into fewer epochs, schedules included.

    Args:
        cfg (Config): The config.
        epochs (int): Epochs wanted.
        hooks (Sequence[dict]): The hooks' configs, which are changed in
            place.

    Returns:
        dict: Overrides; one validation at the end, no checkpoints.

    Raises:
        ValueError: If the config does not count by epochs.
    """
    whole = cfg.train_cfg.get('max_epochs')
    if whole is None:
        raise ValueError('Only trainings by epochs can be probed, but '
                         'train_cfg.max_epochs is not set.')
    share = epochs / whole
    schedulers = cfg.get('param_scheduler') or []
    changes = dict(
        train_cfg=dict(max_epochs=epochs, val_begin=1, val_interval=epochs),
        param_scheduler=shorten_schedulers(schedulers, share) or None)
    if 'checkpoint' in (cfg.get('default_hooks') or {}):
        changes['default_hooks'] = dict(
            checkpoint=dict(interval=-1, save_last=False, save_best=None))
    for hook in hooks:
        for stage in hook.get('stages') or []:
            if stage.get('epochs') is not None:
                stage['epochs'] *= share
            stage['warmup_epochs'] = stage.get('warmup_epochs', 0) * share
        for key in ('warmup_epochs', 'stop_epoch'):
            if hook.get(key):
                hook[key] *= share
    return changes


def run_probe(config: Path,
              work_dir: Path,
              metric: str,
              timeout: float,
              options: Optional[Sequence[str]] = None) -> float:
    """Train and return the last validation's metric.

    Args:
        config (Path): The probe's config.
        work_dir (Path): Where it runs; its output is in ``probe.log``.
        metric (str): Name of the metric.
        timeout (float): Seconds after which it is ended.
        options (Sequence[str], optional): As ``--cfg-options``. Defaults to
            None.

    Returns:
        float: The metric.

    Raises:
        ProbeError: If the training fails, takes too long, or has no such
            metric.
    """
    command = [sys.executable, str(TRAIN), str(config)]
    command += ['--work-dir', str(work_dir)]
    command += ['--cfg-options', *options] if options else []
    log = work_dir / 'probe.log'
    with log.open('w') as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise ProbeError('it did not end in time') from error
        finally:
            process.kill()
            process.wait()
    if code != 0:
        tail = '\n'.join(log.read_text().splitlines()[-15:])
        raise ProbeError(f'it failed; the end of {log}:\n{tail}')
    return read_metric(work_dir, metric)


def read_metric(work_dir: Path, metric: str) -> float:
    """Read the last value of a validation's metric.

    Args:
        work_dir (Path): Where a training ran.
        metric (str): Name of the metric.

    Returns:
        float: The value.

    Raises:
        ProbeError: If there is none; those that there are get listed.
    """
    seen, value = set(), None
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if 'loss' not in row:
                seen.update(row)
                value = row.get(metric, value)
    if value is None:
        names = sorted(seen - {'step', 'time', 'data_time', 'epoch', 'iter'})
        raise ProbeError(f"there is no metric '{metric}'; --metric may be one "
                         f'of {names}')
    return value
