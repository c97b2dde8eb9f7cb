from transmamba_mm.registry import MODELS
from .clip_data_preprocessor import ClipDataPreprocessor


@MODELS.register_module()
class VideoTextDataPreprocessor(ClipDataPreprocessor):
    """Data preprocessor of clips with captions, whose colours are RGB.

    Args:
        *args: As :class:`ClipDataPreprocessor`.
        **kwargs: As :class:`ClipDataPreprocessor`.

    Raises:
        ValueError: If ``to_rgb`` is set, or clips are to be mixed, whose
            captions cannot be.
    """

    #: Whether the inputs are RGB already, which teachers want to know.
    takes_rgb = True

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.to_rgb:
            raise ValueError(
                'data_preprocessor.to_rgb=True would turn the clips, which '
                'are RGB as VideoTextDataset reads them, into BGR; leave it '
                'out.')
        if self.batch_augments is not None:
            raise ValueError('model.train_cfg.augments mixes clips, but not '
                             'their captions; leave it out.')
