from torch import nn


class DirectionTap(nn.Identity):
    """Let a recorder see the features of each scan direction.

    The stacked direction features (M, B, L, C), restored to raster order, pass
    through this parameter-free module. They are computed only while somebody
    listens, so that an unrecorded forward costs nothing.
    """

    @property
    def is_recorded(self) -> bool:
        """bool: Whether a forward hook listens."""
        return len(self._forward_hooks) > 0
