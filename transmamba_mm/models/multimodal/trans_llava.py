from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.registry import MODELS
from .image_text import (IGNORE_INDEX, ImageTextBatch, check_images,
                         check_length, place_images, read_texts)
from .language_models import adapt_lora_names, build_language_model
from .llava_parts import (build_fusion, build_projector, fuse_questions,
                          load_tokenizer)
from .vocabulary import vocabulary_mark

_PARTS = ('vision_tower', 'projector', 'fusion', 'language_model')


@MODELS.register_module()
class TransLlava(BaseModel):
    """Answer questions about images with a Mamba language model.

    Source: LLaVA-1.5: patch tokens go through a projector and take the place
    of ``<image>`` in the prompt; the answers are learnt. TransMamba:
    the language model is a Mamba, and a cross-Mamba module lets the visual
    tokens read the question. With a LLaMA in place of the Mamba this is
    LLaVA, the teacher.

    Takes batches of :class:`~transmamba_mm.models.LlavaDataPreprocessor`:
    ``images``, ``input_ids`` with -200 for the image, ``attention_mask``, and
    for training ``labels`` with -100 for what is not learnt.

    Args:
        vision_tower (dict): Config of
            :class:`~transmamba_mm.models.VisionTower`; its type may be left
            out.
        language_model (dict): Arguments of :func:`~transmamba_mm.models.
            multimodal.language_models.build_language_model`.
        tokenizer (str, optional): Folder of the tokenizer, which
            ``mode='predict'`` needs; its mark is kept in the weights as
            ``vocabulary``. Defaults to None.
        projector (str): 'mlp2x_gelu' or 'linear'. Defaults to 'mlp2x_gelu'.
        fusion (dict, optional): Arguments of
            :class:`~transmamba_mm.models.CrossMambaFusion`, whose widths
            need not be told: visual tokens read the prompt up to its first
            answer. Defaults to None, no fusion.
        freeze (Sequence[str]): Parts that are not trained, of
            'vision_tower', 'projector', 'fusion' and 'language_model'.
            Defaults to ``('vision_tower', )``.
        max_length (int, optional): Longest text that is allowed, with its
            visual tokens. Defaults to None, any.
        generation_cfg (dict, optional): Arguments of Transformers'
            ``generate``. Defaults to None, ``dict(max_new_tokens=64)``.
        data_preprocessor (dict, optional): Config of the data preprocessor;
            its type defaults to
            :class:`~transmamba_mm.models.LlavaDataPreprocessor`. Defaults to
            None.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        ValueError: If an argument is unknown or parts do not fit.
    """

    def __init__(self,
                 vision_tower: dict,
                 language_model: dict,
                 tokenizer: Optional[str] = None,
                 projector: str = 'mlp2x_gelu',
                 fusion: Optional[dict] = None,
                 freeze: Sequence[str] = ('vision_tower', ),
                 max_length: Optional[int] = None,
                 generation_cfg: Optional[dict] = None,
                 data_preprocessor: Optional[dict] = None,
                 init_cfg: Optional[dict] = None) -> None:
        data_preprocessor = {
            'type': 'transmamba_mm.LlavaDataPreprocessor',
            **(data_preprocessor or {})
        }
        super().__init__(data_preprocessor, init_cfg)
        self.vision_tower = MODELS.build({
            'type': 'transmamba_mm.VisionTower',
            **vision_tower
        })
        self.vision_tower.match_inputs(self.data_preprocessor)
        self.language_model = build_language_model(**language_model)
        dims = self.language_model.config.hidden_size
        self.projector = build_projector(projector,
                                         self.vision_tower.embed_dims, dims)
        self.fusion = build_fusion(fusion, dims)
        self.tokenizer = load_tokenizer(tokenizer, self.language_model)
        if self.tokenizer is not None:
            self.register_buffer('vocabulary', vocabulary_mark(self.tokenizer))
        self.max_length = max_length
        self.generation_cfg = {'max_new_tokens': 64, **(generation_cfg or {})}
        self.freeze = self._freeze(freeze)
        self._register_load_state_dict_pre_hook(self._adapt_names)

    def _freeze(self, parts: Sequence[str]) -> Tuple[str, ...]:
        """Take parts out of the training."""
        parts = (parts, ) if isinstance(parts, str) else tuple(parts)
        unknown = set(parts) - set(_PARTS)
        if unknown:
            raise ValueError(f'model.freeze has {sorted(unknown)}; give some '
                             f'of {_PARTS}.')
        for name in parts:
            part = getattr(self, name)
            if part is not None:
                part.requires_grad_(False).eval()
        return parts

    def train(self, mode: bool = True) -> 'TransLlava':
        """Set the mode; frozen parts stay in eval mode.

        Args:
            mode (bool): Whether to train. Defaults to True.

        Returns:
            TransLlava: self.
        """
        super().train(mode)
        for name in self.freeze:
            part = getattr(self, name)
            if part is not None:
                part.eval()
        return self

    def _adapt_names(self, state_dict: dict, prefix: str, *args) -> None:
        adapt_lora_names(state_dict, list(self.language_model.state_dict()),
                         f'{prefix}language_model.')

    def forward(
        self,
        inputs: Dict[str, Tensor],
        data_samples: Optional[List[DataSample]] = None,
        mode: str = 'tensor'
    ) -> Union[Dict[str, Tensor], List[DataSample], Tensor]:
        """Run the model.

        Args:
            inputs (Dict[str, Tensor]): The batch, see the class: ``images``
                (B, C, H, W), normalised, the others (B, L).
            data_samples (List[DataSample], optional): Hold the answers in
                the end. ``has_image=False`` marks a sample without an image.
                Defaults to None.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.

        Returns:
            dict | list | Tensor: Losses, data samples, or the logits (B, L,
            V) of texts with their images, padded on the right.

        Raises:
            RuntimeError: If the mode is unknown.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            hidden = self.hidden_states(self.embed(inputs, data_samples))
            return self.logits(hidden.last_hidden_state)
        raise RuntimeError(f"mode='{mode}' is unknown; use 'loss', 'predict' "
                           "or 'tensor'.")

    def loss(
            self,
            inputs: Dict[str, Tensor],
            data_samples: Optional[List[DataSample]] = None
    ) -> Dict[str, Tensor]:
        """Compute the mean cross entropy of the tokens that are learnt.

        Args:
            inputs (Dict[str, Tensor]): The batch, with ``labels``.
            data_samples (List[DataSample], optional): See :meth:`forward`.
                Defaults to None.

        Returns:
            Dict[str, Tensor]: ``loss``.

        Raises:
            KeyError: If there are no ``labels``.
        """
        if inputs.get('labels', None) is None:
            raise KeyError('The batch has no `labels`: leave for_answer=True '
                           'out of TokenizeConversation in the training '
                           'pipeline.')
        batch = self.embed(inputs, data_samples)
        hidden = self.hidden_states(batch).last_hidden_state
        return dict(loss=self.answer_loss(hidden, batch.labels))

    def answer_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross entropy of the next tokens.

        Logits are made where there is something to learn, and nowhere else.

        Args:
            hidden (Tensor): Output of the language model without its head
                (B, L, C).
            labels (Tensor): -100 for all that is not learnt (B, L).

        Returns:
            Tensor: The mean over the tokens; 0 if none is learnt.
        """
        targets = labels[:, 1:]
        learnt = targets != IGNORE_INDEX
        total = F.cross_entropy(
            self.logits(hidden[:, :-1][learnt]).float(),
            targets[learnt],
            reduction='sum')
        return total / learnt.sum().clamp(min=1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Run the head of the language model.

        Args:
            hidden (Tensor): Shape (..., C).

        Returns:
            Tensor: Shape (..., V).
        """
        head = self.language_model.get_output_embeddings()
        return head(hidden.to(head.weight.dtype))

    @torch.no_grad()
    def predict(self, inputs: Dict[str,
                                   Tensor], data_samples: List[DataSample],
                **generation_cfg) -> List[DataSample]:
        """Answer. A text with ``labels`` is cut before its first answer.

        Args:
            inputs (Dict[str, Tensor]): The batch.
            data_samples (List[DataSample]): Samples of the batch.
            **generation_cfg: Overrides the model's.

        Returns:
            List[DataSample]: The samples, with ``pred_answer``.

        Raises:
            ValueError: If there is no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("mode='predict' needs model.tokenizer, the "
                             'folder of the tokenizer.')
        tokens = self.generate(inputs, data_samples, **generation_cfg)
        answers = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        for answer, sample in zip(answers, data_samples):
            sample.set_field(answer.strip(), 'pred_answer', dtype=str)
        return data_samples

    @torch.no_grad()
    def generate(self,
                 inputs: Dict[str, Tensor],
                 data_samples: Optional[List[DataSample]] = None,
                 **generation_cfg) -> Tensor:
        """Generate tokens.

        Args:
            inputs (Dict[str, Tensor]): The batch.
            data_samples (List[DataSample], optional): See :meth:`forward`.
                Defaults to None.
            **generation_cfg: Overrides the model's.

        Returns:
            Tensor: New tokens (B, L').
        """
        batch = self.embed(inputs, data_samples, for_answer=True)
        special = {
            name: getattr(self.tokenizer, name)
            for name in ('eos_token_id', 'pad_token_id')
            if getattr(self.tokenizer, name, None) is not None
        }
        return self.language_model.generate(
            inputs_embeds=batch.embeddings,
            attention_mask=batch.mask.long(),
            **{
                **special,
                **self.generation_cfg,
                **generation_cfg
            })

    def hidden_states(self, batch: ImageTextBatch, **kwargs) -> Any:
        """Run the language model without its head.

        Args:
            batch (ImageTextBatch): From :meth:`embed`.
            **kwargs: Such as ``output_hidden_states=True``.

        Returns:
            Any: Output with ``last_hidden_state`` (B, L, C).
        """
        return self.language_model.base_model(
            inputs_embeds=batch.embeddings,
            attention_mask=batch.mask.long(),
            use_cache=False,
            return_dict=True,
            **kwargs)

    def embed(self,
              inputs: Dict[str, Tensor],
              data_samples: Optional[List[DataSample]] = None,
              for_answer: bool = False) -> ImageTextBatch:
        """Embed texts and put the visual tokens in.

        Args:
            inputs (Dict[str, Tensor]): The batch.
            data_samples (List[DataSample], optional): See :meth:`forward`.
                Defaults to None.
            for_answer (bool): Whether texts are cut before their first
                answer, and padded on the left. Defaults to False.

        Returns:
            ImageTextBatch: The batch.

        Raises:
            ValueError: If a prompt does not have one image token, or a text
                is too long.
        """
        texts = read_texts(inputs)
        if for_answer:
            texts = texts.cut_answers()
        is_text_only = check_images(texts, data_samples)
        visual = self.projector(self.vision_tower(inputs['images']))
        table = self.language_model.get_input_embeddings()
        embeddings = table(texts.ids.clamp(min=0))
        if self.fusion is not None:
            visual = fuse_questions(self.fusion, visual, embeddings, texts)
        batch = place_images(texts, embeddings, visual,
                             'left' if for_answer else 'right')
        if is_text_only:  # a gradient for every parameter all the same
            batch.embeddings = batch.embeddings + 0. * visual.sum()
        check_length(batch.mask, self.max_length, data_samples)
        return batch
