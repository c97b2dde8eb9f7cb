"""Several processes on a machine without an accelerator."""
import torch
import torch.distributed as dist
from mmengine.config import Config


def use_gloo_without_card(cfg: Config) -> None:
    """Let processes that torchrun has started train or test on CPUs.

    MMEngine asks for a card there, whatever the back end, and hands its
    number to the model wrapper. On a machine with a card, or with another
    launcher, nothing is changed.

    Args:
        cfg (Config): The runner's config; ``model_wrapper_cfg`` is set unless
            it is there.
    """
    if cfg.get('launcher') != 'pytorch' or torch.cuda.is_available():
        return
    dist.init_process_group('gloo')
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False)))
