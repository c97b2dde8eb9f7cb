from typing import List, Tuple

from mmengine.fileio import get_file_backend
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import find_folders

from transmamba_mm.registry import DATASETS


@DATASETS.register_module()
class ImageFolderDataset(CustomDataset):
    """A folder with one sub-folder of images a class, with clear errors.

    It is MMPretrain's ``CustomDataset``, arguments and result alike. What it
    adds is the checking: a folder that is missing, has no class folders, or
    holds no images ends in an error that names the folder and the config key.

    Raises:
        FileNotFoundError: The folder or the annotation file does not exist.
        ValueError: There is no class folder or no image, or the number of
            class folders is not that of the given ``classes``.

    Examples:
        >>> train_dataloader = dict(dataset=dict(
        >>>     type='transmamba_mm.ImageFolderDataset',
        >>>     data_root='data/flowers/train', pipeline=train_pipeline))
    """

    @property
    def _config_key(self) -> str:
        loader = ('val_dataloader` or `test_dataloader'
                  if self.test_mode else 'train_dataloader')
        return f'`data_root` and `data_prefix` of the dataset in `{loader}`'

    def load_data_list(self) -> List[dict]:
        """Load image paths and labels.

        Returns:
            List[dict]: One dict with ``img_path`` and ``gt_label`` an image.
        """
        if self.ann_file and not get_file_backend(self.ann_file).isfile(
                self.ann_file):
            raise FileNotFoundError(
                f'the annotation file {self.ann_file!r} does not exist; check '
                f'`ann_file`, {self._config_key}')
        return super().load_data_list()

    def _find_samples(self) -> List[Tuple[str, int]]:
        root = self.img_prefix
        if not get_file_backend(root).isdir(root):
            raise FileNotFoundError(
                f'the image folder {root!r} does not exist; check '
                f'{self._config_key}')
        if self.with_label and not find_folders(root)[0]:
            raise ValueError(
                f'the image folder {root!r} has no sub-folders. It must hold '
                'one folder of images a class, e.g. '
                f'{root.rstrip("/")}/cat/1.jpg; check {self._config_key}')
        try:
            return super()._find_samples()
        except RuntimeError as error:
            raise ValueError(
                f'the image folder {root!r} holds no images with the '
                f'extensions {sorted(self.extensions)}; check '
                f'{self._config_key}') from error
        except AssertionError as error:
            raise ValueError(
                f'{error} The folder is {root!r}; check `classes` or '
                f'`metainfo`, {self._config_key}') from error
