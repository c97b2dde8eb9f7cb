from typing import Dict, List, Optional, Tuple, Union

from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.registry import MODELS
from transmamba_mm.utils.text_batch import stack_groups, stack_texts
from .base_text_tower import TextFeatures


@MODELS.register_module()
class TextVideoRetrieval(BaseModel):
    """Find videos by texts, and texts by videos.

    A Mamba backbone sees the clip, a text tower the caption, and a head
    compares them. Needs ``text`` in each data sample, a dict with
    ``input_ids`` (L,) and ``attention_mask`` (L,), and for training
    ``video_id`` and ``caption``.

    Args:
        backbone (dict): Config of the visual tower, a
            :class:`~transmamba_mm.models.VideoMamba` with ``num_frames``,
            whose ``out_type`` is set to 'raw', or
            :class:`~transmamba_mm.models.OpenCLIPVideoTower`.
        text_tower (dict): Config of
            :class:`~transmamba_mm.models.OpenCLIPTextTower` or
            :class:`~transmamba_mm.models.HFTextTower`.
        head (dict): Config of :class:`~transmamba_mm.models.MeanPoolHead`,
            :class:`~transmamba_mm.models.SequenceHead` or
            :class:`~transmamba_mm.models.CrossMambaHead`; the widths need not
            be told.
        data_preprocessor (dict, optional): Config of the data preprocessor;
            its type defaults to
            :class:`~transmamba_mm.models.VideoTextDataPreprocessor`.
            Defaults to None.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        ValueError: If the backbone does not take clips.
    """

    def __init__(self,
                 backbone: dict,
                 text_tower: dict,
                 head: dict,
                 data_preprocessor: Optional[dict] = None,
                 init_cfg: Optional[dict] = None) -> None:
        data_preprocessor = {
            'type': 'transmamba_mm.VideoTextDataPreprocessor',
            **(data_preprocessor or {})
        }
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.backbone.out_type = 'raw'
        if getattr(self.backbone, 'num_frames', None) is None:
            raise ValueError(
                f'model.backbone of type {type(self.backbone).__name__} does '
                "not take clips: use type='transmamba_mm.VideoMamba' with "
                'num_frames set to the frames of a clip.')
        self.text_tower = MODELS.build(text_tower)
        self.head = MODELS.build({
            'video_dims': self.backbone.embed_dims,
            'embed_dims': self.text_tower.embed_dims,
            'token_dims': self.text_tower.token_dims,
            **head
        })

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[List[DataSample]] = None,
        mode: str = 'tensor'
    ) -> Union[Dict[str, Tensor], List[DataSample], Tuple[Tensor, Tensor]]:
        """Run the model.

        Args:
            inputs (Tensor): Clips (B, C, T, H, W), normalised.
            data_samples (List[DataSample], optional): The texts. Defaults to
                None.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.

        Returns:
            dict | list | tuple: Losses, data samples, or the unit vectors
            (B, D) of the videos and of the texts.

        Raises:
            RuntimeError: If the mode is unknown.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self.head(
                self.video_tokens(inputs), self.text_features(data_samples))
        raise RuntimeError(f"mode='{mode}' is unknown; use 'loss', 'predict' "
                           "or 'tensor'.")

    def video_tokens(self, inputs: Tensor) -> Tensor:
        """Run the visual tower.

        Args:
            inputs (Tensor): Clips (B, C, T, H, W), normalised.

        Returns:
            Tensor: Tokens (B, T', P, C), P patches of each of T' steps.
        """
        layout = self.backbone.token_layout(tuple(inputs.shape[2:]))
        patches, _ = layout.split(self.backbone(inputs)[-1])
        return patches.unflatten(1, (layout.frames, -1))

    def text_features(self, data_samples: List[DataSample]) -> TextFeatures:
        """Run the text tower.

        Args:
            data_samples (List[DataSample]): Samples with ``text``.

        Returns:
            TextFeatures: Features of the texts.
        """
        device = next(self.head.parameters()).device
        return self.text_tower(**stack_texts(data_samples, device))

    def loss(self, inputs: Tensor,
             data_samples: List[DataSample]) -> Dict[str, Tensor]:
        """Compute the loss.

        Args:
            inputs (Tensor): Clips (B, C, T, H, W), normalised.
            data_samples (List[DataSample]): The texts.

        Returns:
            Dict[str, Tensor]: ``loss`` and values for the log.
        """
        patches = self.video_tokens(inputs)
        text = self.text_features(data_samples)
        video, texts = self.head(patches, text)
        groups = stack_groups(data_samples).to(video.device)
        return self.head.loss(video, texts, patches, text, groups)

    def predict(self, inputs: Tensor,
                data_samples: List[DataSample]) -> List[DataSample]:
        """Put the features into the data samples.

        Args:
            inputs (Tensor): Clips (B, C, T, H, W), normalised.
            data_samples (List[DataSample]): The texts.

        Returns:
            List[DataSample]: The samples, with ``video_feat`` and
            ``text_feat`` (D,), both unit vectors. A head that re-ranks adds
            ``video_tokens`` (T', P', C) and ``text_state`` (layers, N, E).
        """
        patches = self.video_tokens(inputs)
        text = self.text_features(data_samples)
        video, texts = self.head(patches, text)
        fields = dict(video_feat=video, text_feat=texts)
        if self.head.reranks:
            fields.update(
                video_tokens=self.head.visual_tokens(patches),
                text_state=self.head.text_states(text))
        for i, sample in enumerate(data_samples):
            for name, values in fields.items():
                sample.set_field(values[i], name)
        return data_samples
