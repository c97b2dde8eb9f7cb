"""Models and images for pictures."""
import os.path as osp
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.apis import get_model
from mmpretrain.registry import TRANSFORMS
from torch import Tensor, nn

from transmamba_mm.utils.launch import load_config
from transmamba_mm.utils.sample_batches import sample_batches

ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
Size = Tuple[int, int]


def build_model(config: str, checkpoint: Optional[str], options: dict,
                device: str) -> Tuple[nn.Module, Config]:
    """Build a model in eval mode, without its distiller.

    Args:
        config (str): Config file, or a name in MMPretrain's zoo.
        checkpoint (str, optional): Weights; None keeps the random ones.
        options (dict): Overrides of the config.
        device (str): Where it runs.

    Returns:
        Tuple[nn.Module, Config]: Model and config.
    """
    if osp.isfile(config):
        cfg = load_config(config)
    else:
        cfg = get_model(config)._config
    cfg.merge_from_dict(options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = get_model(cfg, pretrained=checkpoint or False, device=device)
    if checkpoint is None:
        MMLogger.get_current_instance().setLevel('WARNING')
        model.init_weights()  # which logs every tensor
    if hasattr(model, 'distiller'):
        model.distiller = None
    return model.eval(), cfg


def image_size(model: nn.Module) -> Size:
    """Tell which images a model is made for.

    Args:
        model (nn.Module): A model with a ``backbone``.

    Returns:
        Size: Height and width; 224 where the backbone does not tell.
    """
    size = getattr(model.backbone, 'img_size', 224)
    return (size, size) if isinstance(size, int) else tuple(size)


def image_batches(cfg: Config,
                  folder: Optional[str],
                  size: Size,
                  count: int,
                  batch_size: int = 8) -> List[dict]:
    """Load images as a data loader gives them.

    Args:
        cfg (Config): Config whose validation images are taken, a random
            choice that is always the same.
        folder (str, optional): A folder of images, or one image, that is
            taken instead; resized and cropped at the centre.
        size (Size): Height and width, for the images of the folder.
        count (int): Images; fewer if there are no more.
        batch_size (int): Images a batch. Defaults to 8.

    Returns:
        List[dict]: Batches of ``inputs`` and ``data_samples``.
    """
    if folder is not None:
        files = find_images(folder)[:count]
        return [
            load_files(files[i:i + batch_size], size)
            for i in range(0, len(files), batch_size)
        ]
    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        raise SystemExit('The config has no val_dataloader; give a folder of '
                         'images by --images.')
    loader = dict(
        loader,
        batch_size=min(batch_size, count),
        num_workers=0,
        persistent_workers=False)
    built = Runner.build_dataloader(loader)
    with sample_batches(built, -(-count // loader['batch_size'])) as batches:
        return list(batches)


def find_images(folder: str) -> List[str]:
    """List the images in a folder and its sub-folders.

    Args:
        folder (str): A folder, or one image.

    Returns:
        List[str]: Paths, in the order of a fixed shuffle, so that the first
        ones are of all classes.
    """
    root = Path(folder)
    files = [root] if root.is_file() else sorted(
        path for path in root.rglob('*') if path.suffix.lower() in ENDINGS)
    if not files:
        raise SystemExit(f"'{folder}' holds no image ({', '.join(ENDINGS)}); "
                         'check --images.')
    order = torch.randperm(
        len(files), generator=torch.Generator().manual_seed(0))
    return [str(files[i]) for i in order]


def file_pipeline(size: Size) -> List[Callable]:
    """Build transforms that load an image, resize its shorter edge and crop
    the centre.

    Args:
        size (Size): Height and width.

    Returns:
        List[Callable]: From ``dict(img_path=...)`` to inputs and sample.
    """
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='ResizeEdge', scale=max(size), edge='short'),
        dict(type='CenterCrop', crop_size=size[::-1]),
        dict(type='PackInputs')
    ]
    return [TRANSFORMS.build(step) for step in steps]


def load_files(files: Sequence[str], size: Size) -> dict:
    """Load images by :func:`file_pipeline`.

    Args:
        files (Sequence[str]): Paths.
        size (Size): Height and width.

    Returns:
        dict: A batch.
    """
    pipeline = Compose(file_pipeline(size))
    return pseudo_collate([pipeline(dict(img_path=path)) for path in files])


def normalised(model: nn.Module, batch: dict) -> Tensor:
    """Bring images into the form that a model is fed.

    Args:
        model (nn.Module): The model.
        batch (dict): A batch as from a data loader.

    Returns:
        Tensor: Shape (B, C, H, W).
    """
    return model.data_preprocessor(batch, False)['inputs']


def stem(config: str, checkpoint: Optional[str]) -> str:
    """Name a model in a picture.

    Args:
        config (str): Its config.
        checkpoint (str, optional): Its weights.

    Returns:
        str: Name of the config, and whether the weights are random.
    """
    name = osp.splitext(osp.basename(config))[0]
    return name if checkpoint else f'{name}\n(random weights)'
