import os
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from transmamba_mm.models.layers import ContextMixer
from .onnx_scan import exportable_scan

#: Batches that the exported model is compared on: below and above the traced.
_BATCHES = (1, 3)
_TRACED_BATCH = 2


class _Scores(nn.Module):
    """Images in, the classifier's raw scores or the last features out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        outs = self.model(images, mode='tensor')
        return outs[-1] if isinstance(outs, (tuple, list)) else outs


def export_onnx(model: nn.Module,
                path: str,
                image_size: Optional[Tuple[int, int]] = None,
                opset: int = 18,
                tolerance: float = 1e-3) -> Dict[str, Any]:
    """Export a classifier, and compare the file's outputs with the model's.

    The recurrence of every mixer becomes one Scan node, whatever the number
    of tokens. The batch is dynamic, the image size is not. Images go in as
    the data preprocessor leaves them, normalised; scores before softmax come
    out. The file appears only if its outputs agree.

    Args:
        model (nn.Module): An ``ImageClassifier`` with a Mamba backbone.
        path (str): File to write.
        image_size (Tuple[int, int], optional): Height and width; None takes
            the backbone's. Defaults to None.
        opset (int): Version of the ONNX operators, at least 18. Defaults to
            18.
        tolerance (float): Largest absolute difference allowed. Defaults to
            1e-3.

    Returns:
        Dict[str, Any]: 'scan_nodes', 'difference' (largest found) and
        'input' (shape without the batch).

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: The outputs differ by more than the tolerance, or the
            recurrence is not kept in Scan nodes.
    """
    _require_packages()
    shape = _input_shape(model.backbone, image_size)
    wrapped = _Scores(model).cpu().eval()
    partial = f'{path}.part'
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    try:
        _write(wrapped, partial, shape, opset)
        scan_nodes = _check_scans(partial, _count_mixers(model))
        difference = _compare(wrapped, partial, shape)
        if not difference <= tolerance:
            raise ValueError(
                'the outputs of the exported model differ from the '
                f"original's by {difference:.3g}, more than the tolerance of "
                f'{tolerance:.3g}; no file was written')
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return dict(scan_nodes=scan_nodes, difference=difference, input=shape)


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'the export needs {error.name}, which is not installed. Run: pip '
            'install onnx onnxscript onnxruntime') from error


def _input_shape(backbone: nn.Module,
                 image_size: Optional[Tuple[int, int]]) -> List[int]:
    """Shape of an input without its batch: (C, [T,] H, W)."""
    channels = next(p.shape[1] for p in backbone.patch_embed.parameters()
                    if p.dim() >= 4)
    frames = getattr(backbone, 'num_frames', None)
    size = image_size or backbone.img_size
    return [channels, *([frames] if frames else []), *size]


@torch.no_grad()
def _write(model: nn.Module, path: str, shape: List[int], opset: int) -> None:
    from .onnx_translation import recurrence as translation
    images = torch.randn(_TRACED_BATCH, *shape)
    model(images)  # fills the caches of the scan orders with real tensors
    with exportable_scan():
        program = torch.onnx.export(
            model, (images, ),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=['images'],
            output_names=['scores'],
            dynamic_shapes=dict(images={0: torch.export.Dim('batch')}),
            custom_translation_table={
                torch.ops.transmamba_mm.recurrence.default: translation
            })
    program.save(path, external_data=False)


def _count_mixers(model: nn.Module) -> int:
    """Count what runs one scan each."""
    fusions = sum(isinstance(m, ContextMixer) for m in model.modules())
    return len(model.backbone.block_names) + fusions


def _check_scans(path: str, expected: int) -> int:
    """Count the Scan nodes; there must be one a mixer."""
    import onnx
    nodes = onnx.load(path).graph.node
    count = sum(node.op_type == 'Scan' for node in nodes)
    if count != expected:
        raise ValueError(f'the exported model has {count} Scan nodes for '
                         f'{expected} mixers; no file was written')
    return count


@torch.no_grad()
def _compare(model: nn.Module, path: str, shape: List[int]) -> float:
    """Largest absolute difference of the outputs over some batches."""
    import onnxruntime
    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider'])
    generator = torch.Generator().manual_seed(0)
    worst = 0.
    for batch in _BATCHES:
        images = torch.randn(batch, *shape, generator=generator)
        found, = session.run(None, {'images': images.numpy()})
        difference = (torch.from_numpy(found) - model(images)).abs().max()
        worst = float(torch.maximum(torch.tensor(worst), difference))
    return worst
