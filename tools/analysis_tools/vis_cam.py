"""Class activation maps by MMPretrain's tool, for the students too.

The flags are those of MMPretrain's tools/visualization/vis_cam.py, which does
the work; it is only told how the tokens of this package's backbones stand,
and which of their layers to look at if --target-layers does not.
"""
import importlib.util
import os.path as osp
from types import ModuleType
from typing import Any, Callable, List

import mmpretrain
from picture_parts.inputs import file_pipeline, image_size
from torch import Tensor, nn

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.visualization import CamReshape, default_cam_layer


def load_tool() -> ModuleType:
    """Load MMPretrain's tool from where its package keeps it."""
    root = osp.dirname(mmpretrain.__file__)
    path = osp.join('tools', 'visualization', 'vis_cam.py')
    places = [osp.join(root, '.mim', path), osp.join(osp.dirname(root), path)]
    found = next(filter(osp.isfile, places), None)
    if found is None:
        raise SystemExit(f'MMPretrain came without its tool {path}; looked '
                         f'for {places}.')
    spec = importlib.util.spec_from_file_location('mmpretrain_vis_cam', found)
    tool = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(tool)
    except ImportError as error:
        raise SystemExit('The package grad-cam is needed: pip install '
                         f"'grad-cam>=1.4.8,<1.5' ({error})") from error
    return tool


def teach(tool: ModuleType) -> None:
    """Tell the tool about this package's backbones; others go its own way."""
    own_init, own_layers = tool.init_cam, tool.get_default_target_layers
    own_model, own_compose = tool.get_model, tool.Compose
    models: List[nn.Module] = []

    def get_model(*args: Any, **kwargs: Any) -> nn.Module:
        models[:] = [own_model(*args, **kwargs)]
        return models[0]

    def compose(transforms: List[Callable]) -> Callable:
        # data that is decoded once has no pipeline for a single file
        if not any(type(t).__name__.startswith('Pack') for t in transforms):
            transforms = file_pipeline(image_size(models[0]))
        return own_compose(transforms)

    def init_cam(method: str, model: nn.Module, target_layers: List[nn.Module],
                 use_cuda: bool, reshape: Callable[[Tensor], Tensor]) -> Any:
        if hasattr(model.backbone, 'block_names'):
            # a second forward in the backward would be seen twice
            model.backbone.with_cp = False
            reshape = CamReshape(model.backbone)
        return own_init(method, model, target_layers, use_cuda, reshape)

    def get_default_target_layers(model: nn.Module,
                                  args: Any) -> List[nn.Module]:
        if hasattr(model.backbone, 'block_names'):
            return [default_cam_layer(model.backbone)]
        return own_layers(model, args)

    tool.get_model, tool.Compose = get_model, compose
    tool.init_cam = init_cam
    tool.get_default_target_layers = get_default_target_layers


def main() -> None:
    tool = load_tool()
    teach(tool)
    tool.main()


if __name__ == '__main__':
    main()
