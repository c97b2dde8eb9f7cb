from typing import Optional, Tuple

from torch import Tensor, nn

from .feature_map import to_feature_map


class CamReshape:
    """Turn what a layer gives into maps, for class activation maps.

    To be used as ``reshape_transform`` of the package ``grad-cam``. It knows
    where the class token stands (ViM's in the middle), images that are not
    square, and the stages of a hierarchical backbone.

    Args:
        backbone (nn.Module): The backbone of the model that is looked at; it
            is watched until :meth:`close` for the size of its images.

    Examples:
        >>> from pytorch_grad_cam import GradCAM
        >>> cam = GradCAM(
        ...     model, [default_cam_layer(model.backbone)],
        ...     reshape_transform=CamReshape(model.backbone))
        >>> heat = cam(images)
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.image_size: Optional[Tuple[int, ...]] = None
        self._handle = backbone.register_forward_pre_hook(self._see)

    def _see(self, module: nn.Module, args: tuple) -> None:
        self.image_size = tuple(args[0].shape[2:])

    def __call__(self, tensor: Tensor) -> Tensor:
        """Reshape activations or their gradients.

        Args:
            tensor (Tensor): Tokens (B, L, C), or maps (B, C, H, W).

        Returns:
            Tensor: Shape (B, C, H, W).
        """
        return to_feature_map(tensor, self.backbone, self.image_size)

    def close(self) -> None:
        """Watch the backbone no longer."""
        self._handle.remove()


def default_cam_layer(backbone: nn.Module) -> nn.Module:
    """Choose the last layer whose patch tokens reach the classifier.

    Args:
        backbone (nn.Module): A backbone of this package.

    Returns:
        nn.Module: The norm of the last block if the class token is read out,
        since no patch reaches it later; else the final norm.

    Raises:
        ValueError: If it is no backbone of this package.
    """
    if not hasattr(backbone, 'block_names'):
        raise ValueError(
            f'{type(backbone).__name__} is no backbone of this package: name '
            'the layer by --target-layers.')
    if backbone.out_type == 'cls_token':
        return backbone.get_submodule(backbone.block_names[-1]).norm
    return backbone.get_submodule(backbone.final_norm_name)
