"""Write a trained CLIP4Clip as a folder of open_clip, to teach with it.

The checkpoint is of a TextVideoRetrieval whose backbone is an
OpenCLIPVideoTower and whose text tower is an OpenCLIPTextTower.
"""
import argparse
import json
from pathlib import Path
from typing import Dict

import torch
from mmengine.runner import CheckpointLoader
from mmpretrain.registry import MODELS
from torch import nn

import transmamba_mm  # noqa: F401  (safe loading)
from transmamba_mm.models import OpenCLIPTextTower, OpenCLIPVideoTower
from transmamba_mm.utils.launch import load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('dst', help='folder to write')
    return parser.parse_args()


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


def export(config: str, checkpoint: str, dst: str) -> float:
    """Write the folder.

    Args:
        config (str): Config of the training.
        checkpoint (str): Its checkpoint.
        dst (str): Folder to write.

    Returns:
        float: The factor on the cosines that was learned.
    """
    cfg = load_config(config)
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model)
    loaded = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    model.load_state_dict(loaded.get('state_dict', loaded))
    content = describe(model)
    state = {
        f'visual.{k}': v
        for k, v in model.backbone.model.state_dict().items()
    }
    state.update(model.text_tower.model.state_dict())
    state['logit_scale'] = model.head.logit_scale.detach()
    folder = Path(dst)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / 'open_clip_model.pth')
    path = folder / 'open_clip_config.json'
    path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    return model.head.logit_scale.exp().item()


def main() -> None:
    args = parse_args()
    scale = export(args.config, args.checkpoint, args.dst)
    print(f"{args.dst}\nTeach with it: dict(type='transmamba_mm."
          f"CLIP4ClipTeacher', model_name='{args.dst}', scale={scale:.1f})")


if __name__ == '__main__':
    main()
