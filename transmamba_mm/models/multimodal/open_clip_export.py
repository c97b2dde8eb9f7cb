"""Write a trained CLIP4Clip as open_clip does, to teach with it."""
import json
import shutil
from pathlib import Path
from typing import Dict, Union

import torch
from torch import nn

from .open_clip_text_tower import OpenCLIPTextTower
from .open_clip_video_tower import OpenCLIPVideoTower


def write_open_clip(model: nn.Module, folder: Union[str, Path]) -> float:
    """Write a model as a folder of open_clip.

    The folder appears when it is whole.

    Args:
        model (nn.Module): A ``TextVideoRetrieval`` with both towers of
            open_clip.
        folder (str | Path): Folder to write.

    Returns:
        float: The factor on the cosines that was learned.

    Raises:
        ValueError: If its towers are not those of open_clip.
    """
    content = describe(model)
    state = {
        f'visual.{k}': v
        for k, v in model.backbone.model.state_dict().items()
    }
    state.update(model.text_tower.model.state_dict())
    state['logit_scale'] = model.head.logit_scale
    state = {k: v.detach().cpu() for k, v in state.items()}
    partial = Path(f'{folder}.partial')
    partial.mkdir(parents=True, exist_ok=True)
    torch.save(state, partial / 'open_clip_model.pth')
    (partial / 'open_clip_config.json').write_text(
        f'{json.dumps(content, indent=2)}\n', encoding='utf-8')
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return model.head.logit_scale.exp().item()


def describe(model: nn.Module) -> Dict[str, dict]:
    """Describe a model as open_clip does.

    Args:
        model (nn.Module): A ``TextVideoRetrieval``.

    Returns:
        Dict[str, dict]: Content of open_clip_config.json.

    Raises:
        ValueError: If its towers are not those of open_clip.
    """
    for name, kind in (('backbone', OpenCLIPVideoTower), ('text_tower',
                                                          OpenCLIPTextTower)):
        if not isinstance(getattr(model, name, None), kind):
            raise ValueError(
                f'model.{name} is {type(getattr(model, name, None)).__name__},'
                f' but only {kind.__name__} has a place in open_clip.')
    if isinstance(model.head.video_proj, nn.Linear):
        raise ValueError('model.head projects the frames, for which open_clip '
                         'has no place: set model.head.with_projection=False.')
    visual, text = model.backbone.model, model.text_tower.model
    blocks = visual.transformer.resblocks
    model_cfg = dict(
        embed_dim=visual.output_dim,
        quick_gelu=type(blocks[0].mlp.gelu).__name__ == 'QuickGELU',
        vision_cfg=dict(
            image_size=visual.image_size[0],
            patch_size=visual.patch_size[0],
            width=visual.transformer.width,
            head_width=visual.transformer.width // blocks[0].attn.num_heads,
            mlp_ratio=_mlp_ratio(blocks[0]),
            layers=len(blocks)),
        text_cfg=dict(
            context_length=text.context_length,
            vocab_size=text.vocab_size,
            width=text.width,
            heads=text.heads,
            mlp_ratio=_mlp_ratio(text.transformer.resblocks[0]),
            layers=len(text.transformer.resblocks)))
    mean, std = ((t.flatten() / 255).tolist()
                 for t in (model.data_preprocessor.mean,
                           model.data_preprocessor.std))
    return dict(model_cfg=model_cfg, preprocess_cfg=dict(mean=mean, std=std))


def _mlp_ratio(block: nn.Module) -> float:
    return block.mlp.c_fc.out_features / block.mlp.c_fc.in_features
