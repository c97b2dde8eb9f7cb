from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.registry import MODELS
from .image_text import (IGNORE_INDEX, ImageTextBatch, check_images,
                         first_prompts, place_images)
from .language_models import (adapt_lora_names, build_language_model,
                              hidden_states)
from .llava_parts import (build_fusion, build_projector, fuse_questions,
                          load_tokenizer, sample_names)

_PARTS = ('vision_tower', 'projector', 'fusion', 'language_model')


@MODELS.register_module()
class TransLlava(BaseModel):
    """Answer questions about images with a Mamba language model.

    Source: LLaVA-1.5: patch tokens go through a projector and take the place
    of ``<image>`` in the prompt; the answers are learnt. TransMamba:
    the language model is a Mamba, and a cross-Mamba module lets the visual
    tokens read the question. With a LLaMA in place of the Mamba this is
    LLaVA, the teacher.

    Needs ``input_ids`` (L,), -200 for the image, in each data sample, and
    ``labels`` (L,), -100 for what is not learnt, for training.

    Args:
        vision_tower (dict): Config of
            :class:`~transmamba_mm.models.VisionTower`; its type may be left
            out.
        language_model (dict): Arguments of :func:`~transmamba_mm.models.
            multimodal.language_models.build_language_model`.
        tokenizer (str, optional): Folder of the tokenizer, which
            ``mode='predict'`` needs. Defaults to None.
        projector (str): 'mlp2x_gelu' or 'linear'. Defaults to 'mlp2x_gelu'.
        fusion (dict, optional): Arguments of
            :class:`~transmamba_mm.models.CrossMambaFusion`, whose widths
            need not be told: visual tokens read the prompt up to its first
            answer. Defaults to None, no fusion.
        freeze (Sequence[str]): Parts that are not trained, of
            'vision_tower', 'projector', 'fusion' and 'language_model'.
            Defaults to ``('vision_tower', )``.
        template (str): Conversation template of questions that come without
            ``input_ids``. Defaults to 'v1'.
        max_length (int, optional): Longest text that is allowed, with its
            visual tokens. Defaults to None, any.
        allow_text_only (bool): Whether prompts without an image token are
            allowed, whose images are not looked at. Defaults to False.
        generation_cfg (dict, optional): Arguments of Transformers'
            ``generate``. Defaults to None, ``dict(max_new_tokens=64)``.
        data_preprocessor (dict, optional): Config of the data preprocessor;
            its type defaults to MMPretrain's ``MultiModalDataPreprocessor``.
            Defaults to None.
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
                 template: str = 'v1',
                 max_length: Optional[int] = None,
                 allow_text_only: bool = False,
                 generation_cfg: Optional[dict] = None,
                 data_preprocessor: Optional[dict] = None,
                 init_cfg: Optional[dict] = None) -> None:
        data_preprocessor = {
            'type': 'mmpretrain.MultiModalDataPreprocessor',
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
        self.template = template
        self.max_length = max_length
        self.allow_text_only = allow_text_only
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
            inputs: Optional[Tensor] = None,
            data_samples: Optional[List[DataSample]] = None,
            mode: str = 'tensor',
            images: Optional[Tensor] = None,
            **kwargs) -> Union[Dict[str, Tensor], List[DataSample], Tensor]:
        """Run the model.

        Args:
            inputs (Tensor, optional): Images (B, C, H, W), normalised.
                Defaults to None.
            data_samples (List[DataSample], optional): The texts. Defaults to
                None.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.
            images (Tensor, optional): The name that MMPretrain's data
                preprocessor has for ``inputs``. Defaults to None.
            **kwargs: What else a data preprocessor gives, such as padded
                texts; not used.

        Returns:
            dict | list | Tensor: Losses, data samples, or the logits (B, L,
            V) of texts padded on the right.

        Raises:
            RuntimeError: If the mode is unknown.
        """
        inputs = images if inputs is None else inputs
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            batch = self.embed(inputs, *self.read_texts(data_samples))
            hidden = self.hidden_states(batch).last_hidden_state
            return self.language_model.get_output_embeddings()(hidden)
        raise RuntimeError(f"mode='{mode}' is unknown; use 'loss', 'predict' "
                           "or 'tensor'.")

    def loss(self, inputs: Tensor,
             data_samples: List[DataSample]) -> Dict[str, Tensor]:
        """Compute the mean cross entropy of the tokens that are learnt.

        Args:
            inputs (Tensor): Images (B, C, H, W), normalised.
            data_samples (List[DataSample]): The texts, with ``labels``.

        Returns:
            Dict[str, Tensor]: ``loss``.

        Raises:
            KeyError: If a sample has no ``labels``.
        """
        if not all('labels' in sample for sample in data_samples):
            raise KeyError('A sample has no `labels`: the packing transform '
                           'of the training pipeline must keep them.')
        batch = self.embed(
            inputs, *self.read_texts(data_samples), data_samples=data_samples)
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
        head = self.language_model.get_output_embeddings()
        logits = head(hidden[:, :-1][learnt].to(head.weight.dtype)).float()
        total = F.cross_entropy(logits, targets[learnt], reduction='sum')
        return total / learnt.sum().clamp(min=1)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: List[DataSample],
                **generation_cfg) -> List[DataSample]:
        """Answer.

        A text with ``labels`` is cut before its first answer; a sample
        without ``input_ids`` is asked its ``question``.

        Args:
            inputs (Tensor): Images (B, C, H, W), normalised.
            data_samples (List[DataSample]): The texts.
            **generation_cfg: Overrides the model's.

        Returns:
            List[DataSample]: The samples, with ``pred_answer``.

        Raises:
            ValueError: If there is no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("mode='predict' needs model.tokenizer, the "
                             'folder of the tokenizer.')
        ids = first_prompts(*self.read_texts(data_samples))
        tokens = self.generate(inputs, ids, data_samples, **generation_cfg)
        answers = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        for answer, sample in zip(answers, data_samples):
            sample.set_field(answer.strip(), 'pred_answer', dtype=str)
        return data_samples

    @torch.no_grad()
    def generate(self,
                 inputs: Tensor,
                 ids: List[Tensor],
                 data_samples: Optional[list] = None,
                 **generation_cfg) -> Tensor:
        """Generate tokens after prompts.

        Args:
            inputs (Tensor): Images (B, C, H, W), normalised.
            ids (List[Tensor]): Prompts (L,), -200 for the image.
            data_samples (list, optional): Named in errors. Defaults to None.
            **generation_cfg: Overrides the model's.

        Returns:
            Tensor: New tokens (B, L').
        """
        labels = [torch.full_like(tokens, IGNORE_INDEX) for tokens in ids]
        batch = self.embed(inputs, ids, labels, 'left', data_samples)
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
        return hidden_states(self.language_model, batch.embeddings, batch.mask,
                             **kwargs)

    def read_texts(
            self, data_samples: List[DataSample]
    ) -> Tuple[List[Tensor], List[Tensor]]:
        """Take tokens and labels out of data samples.

        Args:
            data_samples (List[DataSample]): Samples with ``input_ids`` or
                ``question``, and perhaps ``labels``.

        Returns:
            Tuple[List[Tensor], List[Tensor]]: Per sample its tokens (L,) and
            its labels (L,).

        Raises:
            KeyError: If a sample has neither text.
        """
        device = self.language_model.get_input_embeddings().weight.device
        ids, labels = [], []
        for sample in data_samples:
            tokens = sample.get('input_ids', None)
            if tokens is None:
                tokens = self._ask(sample)
            tokens = torch.as_tensor(tokens, device=device).long()
            label = sample.get('labels', None)
            label = torch.full_like(tokens, IGNORE_INDEX) if label is None \
                else torch.as_tensor(label, device=device).long()
            ids.append(tokens)
            labels.append(label)
        return ids, labels

    def _ask(self, sample: DataSample) -> List[int]:
        """Tokenise the question of a sample."""
        question = sample.get('question', None)
        if question is None or self.tokenizer is None:
            raise KeyError('A sample has no `input_ids`; give them, or a '
                           '`question` and model.tokenizer.')
        from transmamba_mm.datasets.vqa import get_template, tokenize_prompt
        return tokenize_prompt(question, get_template(self.template),
                               self.tokenizer)

    def embed(self,
              inputs: Tensor,
              ids: List[Tensor],
              labels: List[Tensor],
              padding_side: str = 'right',
              data_samples: Optional[list] = None) -> ImageTextBatch:
        """Embed texts and put the visual tokens in.

        Args:
            inputs (Tensor): Images (B, C, H, W), normalised.
            ids (List[Tensor]): Per sample its tokens (L,).
            labels (List[Tensor]): Per sample its labels (L,).
            padding_side (str): 'left' or 'right'. Defaults to 'right'.
            data_samples (list, optional): Named in errors. Defaults to None.

        Returns:
            ImageTextBatch: The batch.

        Raises:
            ValueError: If a prompt does not have one image token, or a text
                is too long.
        """
        names = sample_names(data_samples, len(ids))
        check_images(ids, names, self.allow_text_only)
        visual = self.projector(self.vision_tower(inputs))
        table = self.language_model.get_input_embeddings()
        embeddings = [table(tokens.clamp(min=0)) for tokens in ids]
        if self.fusion is not None:
            visual = fuse_questions(self.fusion, visual, embeddings,
                                    first_prompts(ids, labels))
        batch = place_images(embeddings, ids, labels, visual, padding_side)
        if self.allow_text_only:  # every parameter has a gradient
            batch.embeddings = batch.embeddings + 0. * visual.sum()
        if self.max_length and batch.mask.shape[1] > self.max_length:
            longest = int(batch.mask.sum(1).argmax())
            raise ValueError(
                f'The text of {names[longest]} has {batch.mask.shape[1]} '
                'tokens with its image, and model.max_length='
                f'{self.max_length}: shorten it (max_length of the dataset), '
                'or raise model.max_length.')
        return batch
