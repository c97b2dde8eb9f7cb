from typing import Dict, List, Optional, Sequence, Union

import torch
from mmengine.model import BaseModule
from torch import Tensor

from transmamba_mm.distillation import touch
from transmamba_mm.registry import MODELS
from ..layers.token_layout import TokenLayout
from ..losses import (AdaptiveCosineLoss, ReleasedCodeLoss,
                      logit_distillation_loss)
from ..necks import ProjectionAligner
from .balance import build_balance
from .distiller_options import check_choice, layer_paths, loss_weights
from .feature_terms import (adaptive_terms, check_features, layer_stats,
                            released_terms)
from .grad_norm_balance import GradNormBalance
from .layer_map import map_layers
from .token_match import match_tokens

Records = Dict[str, Tensor]
Layouts = Sequence[TokenLayout]


@MODELS.register_module()
class BidirectionalDistiller(BaseModule):
    """Teach every student layer, and every scan direction, by a teacher layer.

    Source: TransMamba, adaptive bidirectional distillation (WSAB). The total
    loss is ``beta * loss_cls + alpha * distillation + logit_weight * KL``;
    in the variant 'paper_v1' it is ``alpha * loss_cls + (1 - alpha) *
    distillation``, where ``alpha * loss_cls`` stays when the distillation is
    switched off. The paper gives no value of a coefficient, no layer map and
    no place of the features: all defaults here are our choice.

    Args:
        teacher_dims (int): Width of the teacher's features.
        teacher_depth (int): Number of teacher layers.
        student_dims (int | Sequence[int], optional): Student width, one for
            all layers or one a layer. None takes the backbone's. Defaults to
            None.
        student_depth (int, optional): Number of student layers. None takes
            the backbone's. Defaults to None.
        directions (Sequence[str], optional): Names of the student's scan
            directions. None takes the backbone's. Defaults to None.
        student_layers (str | Sequence[str], optional): Module paths of the
            student's layers, or one path with '{}' for the index. None takes
            the backbone's. Defaults to None.
        teacher_layers (str, optional): Module path of a teacher layer, with
            '{}' for the index. None takes the teacher's ``layer_name``.
            Defaults to None.
        layer_map (str | Sequence[int]): See
            :func:`~transmamba_mm.models.distillers.map_layers`, or 'cka': the
            hook measures which teacher layer is the most similar one to each
            student layer before training. Defaults to 'proportional'.
        features (str): 'directions' teaches each scan direction's output by
            itself; the terms are averaged, so that alpha means the same for
            any number of directions (our choice), and added up in the
            variant 'paper_v1'. 'block' teaches the block's output. Defaults
            to 'directions'.
        variant (str): 'default', 'paper_v1' (literal double sum) or
            'released_code' (what the authors' repository computes; it takes
            the block outputs, whatever ``features`` says). Defaults to
            'default'.
        alpha (float, optional): See the formula above. Defaults to 1, and to
            0.5 in the variant 'paper_v1'.
        beta (float): Weight of the task's loss; not used by 'paper_v1'.
            Defaults to 1.
        adaptive (bool): Whether layers are weighted by their similarity.
            Defaults to True.
        eps (float): Lower clamp of the cosines in these weights. Defaults to
            0.1.
        logit_weight (float): Weight of the KL between the logits. Defaults
            to 0.
        temperature (float): Temperature of logits, and of the variant
            'released_code'. Defaults to 2.
        aligner (dict): Arguments of :class:`ProjectionAligner`, such as
            ``dict(mode='mlp')``. Defaults to an empty dict.
        balance (str | dict): How the terms are weighed against the task:

            - 'constant': by alpha and beta as they are.
            - 'grad_norm': see :class:`GradNormBalance`.
            - 'uncertainty': see :class:`UncertaintyBalance`.

            A dict adds arguments, such as ``dict(kind='grad_norm',
            ratio=0.5)``. Defaults to 'constant'.
        log_layers (bool): Whether the cosine and weight of every layer is
            logged, not just mean, least and largest. Defaults to False.
        init_cfg (dict, optional): Initialisation config. Defaults to None.
    """

    VARIANTS = ('default', 'paper_v1', 'released_code')

    def __init__(self,
                 teacher_dims: int,
                 teacher_depth: int,
                 student_dims: Union[int, Sequence[int], None] = None,
                 student_depth: Optional[int] = None,
                 directions: Optional[Sequence[str]] = None,
                 student_layers: Union[str, Sequence[str], None] = None,
                 teacher_layers: Optional[str] = None,
                 layer_map: Union[str, Sequence[int]] = 'proportional',
                 features: str = 'directions',
                 variant: str = 'default',
                 alpha: Optional[float] = None,
                 beta: float = 1.,
                 adaptive: bool = True,
                 eps: float = 0.1,
                 logit_weight: float = 0.,
                 temperature: float = 2.,
                 aligner: dict = dict(),
                 balance: Union[str, dict] = 'constant',
                 log_layers: bool = False,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('variant', variant, self.VARIANTS)
        check_choice('features', features, ('directions', 'block'))
        if temperature <= 0:
            raise ValueError(f'distiller.temperature={temperature}, but it '
                             'must be positive.')
        self.variant = variant
        self.use_directions = (
            features == 'directions' and variant != 'released_code')
        self.directions = tuple(directions or ())
        self.teacher_dims = teacher_dims
        self.teacher_depth = teacher_depth
        self.student_depth = student_depth
        self.student_layers = layer_paths(
            student_layers or 'backbone.layers.{}', student_depth)
        self.teacher_layers = teacher_layers
        self._set_layer_map(layer_map)
        self.logit_weight = logit_weight
        self.temperature = temperature
        self.log_layers = log_layers
        self.task_weight, self.feature_weight = loss_weights(
            variant, alpha, beta)
        #: Scale of all terms in [0, 1]; the hook moves it (warm-up, stop).
        self.progress = 1.
        #: Whether only the aligner learns; the iteration of the stage.
        self.calibrating, self.iteration = False, 0
        self.balance = build_balance(balance, logit_weight > 0)
        self.aligner = ProjectionAligner(student_dims, teacher_dims,
                                         student_depth, **aligner)
        if variant == 'released_code':
            self.feature_loss = ReleasedCodeLoss(temperature)
        else:
            self.feature_loss = AdaptiveCosineLoss(variant, eps, adaptive)

    def _set_layer_map(self, kind: Union[str, Sequence[int]]) -> None:
        """Map the layers; a map to be measured starts as proportional."""
        self.measures_layer_map = kind == 'cka'
        if self.measures_layer_map:
            if self.variant == 'released_code':
                raise ValueError(
                    "distiller.layer_map='cka' has no use in the variant "
                    "'released_code', which teaches by the last layer only; "
                    'leave model.distiller.layer_map out.')
            kind = 'proportional'
            self.register_buffer('measured_map',
                                 torch.full((self.student_depth, ), -1))
        self.layer_map = map_layers(kind, self.student_depth,
                                    self.teacher_depth)

    def use_layer_map(self, layers: Sequence[int]) -> None:
        """Take a measured layer map, and keep it in the checkpoints.

        Args:
            layers (Sequence[int]): One teacher layer a student layer.
        """
        self.layer_map = map_layers(
            list(layers), self.student_depth, self.teacher_depth)
        self.measured_map.copy_(torch.tensor(self.layer_map))

    def feature_names(self) -> List[str]:
        """List the student modules whose features are taught.

        Returns:
            List[str]: One module path a layer.
        """
        suffix = '.direction_tap' if self.use_directions else ''
        return [path + suffix for path in self.student_layers]

    def shared_names(self) -> List[str]:
        """List the student modules whose weights :meth:`join` wants.

        Returns:
            List[str]: Module paths, any of which will do; mostly none.
        """
        if isinstance(self.balance, GradNormBalance) and \
                not self.calibrating and self.balance.is_due(self.iteration):
            return self.student_layers
        return []

    def student_names(self, final_norm: str, head: str) -> List[str]:
        """List the student modules to record.

        Args:
            final_norm (str): Path of the student's last norm.
            head (str): Path of the student's head.

        Returns:
            List[str]: Module paths.
        """
        names = self.feature_names()
        if self.variant == 'released_code':
            names[-1] = final_norm
        return names + [head] * (self.logit_weight > 0)

    def teacher_names(self, layer: str, final_norm: str,
                      head: str) -> List[str]:
        """List the teacher modules to record.

        Args:
            layer (str): Path of a teacher layer, with '{}' for the index,
                if ``teacher_layers`` is not given.
            final_norm (str): Path of the teacher's last norm.
            head (str): Path of the teacher's head.

        Returns:
            List[str]: Module paths.
        """
        layer = self.teacher_layers or layer
        names = [layer.format(i) for i in self.layer_map]
        if self.variant == 'released_code':
            names = [final_norm]
        return names + [head] * (self.logit_weight > 0)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor],
                student_layouts: Layouts,
                teacher_layouts: Layouts) -> Dict[str, Tensor]:
        """Compute the distillation terms.

        Args:
            student (Sequence[Tensor]): Outputs of :meth:`student_names`:
                directions (M, B, L_s, C_s) or blocks (B, L_s, C_s), then
                logits (B, K) if asked for.
            teacher (Sequence[Tensor]): Outputs of :meth:`teacher_names`:
                (B, L_t, C_t), then logits (B, K).
            student_layouts (Sequence[TokenLayout]): One a student layer.
            teacher_layouts (Sequence[TokenLayout]): One a recorded teacher
                layer.

        Returns:
            Dict[str, Tensor]: Terms, already weighted; keys that contain
            'loss' are to be added up, the others only logged.
        """
        terms, scale = {}, self.progress
        if self.logit_weight > 0:
            *student, student_logits = student
            *teacher, teacher_logits = teacher
            terms['loss_logit'] = scale * self.logit_weight * \
                logit_distillation_loss(student_logits, teacher_logits,
                                        self.temperature)
        check_features(student, teacher, self.aligner.in_dims,
                       self.teacher_dims, self.use_directions)
        if self.variant == 'released_code':
            features = released_terms(student, teacher, student_layouts,
                                      teacher_layouts, self.aligner,
                                      self.feature_loss)
        else:
            pairs = list(
                map(match_tokens, student, teacher, student_layouts,
                    teacher_layouts))
            features, cosines, weights = adaptive_terms(
                pairs, self.aligner, self.feature_loss,
                self.directions if self.use_directions else None, self.variant
                != 'paper_v1')
            features.update(layer_stats(cosines, weights, self.log_layers))
        for key, value in features.items():
            weight = scale * self.feature_weight if 'loss' in key else 1
            terms[key] = weight * value
        return terms

    def idle_terms(self) -> Dict[str, Tensor]:
        """Return a zero that touches all parameters.

        Distributed training waits for the gradient of every parameter, also
        while distillation is off.

        Returns:
            Dict[str, Tensor]: One term with value 0; none without parameters.
        """
        params = list(self.parameters())
        return dict(loss_idle=touch(params)) if params else {}

    def join(self,
             task_loss: Tensor,
             terms: Records,
             shared: Sequence[Tensor] = ()) -> Records:
        """Weigh the model's own loss and the terms against each other.

        Args:
            task_loss (Tensor): The model's own loss.
            terms (Dict[str, Tensor]): Terms of :meth:`forward`.
            shared (Sequence[Tensor]): Trained weights of one of
                :meth:`shared_names`. Defaults to none.

        Returns:
            Dict[str, Tensor]: ``loss_cls``, and the terms with the prefix
            'distill.'.
        """
        task = self.task_weight * task_loss
        if self.balance is not None:
            task, terms = self.balance(task, terms, self.progress, shared)
        return dict(
            loss_cls=task, **{
                f'distill.{k}': v
                for k, v in terms.items()
            })
