from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import Tensor

from transmamba_mm.structures import LabelledBatch
from transmamba_mm.utils.cuda_graph import capture

#: Name of the logged value that tells whether a step was left out.
SKIPPED = 'skipped'

Batch = Tuple[Tensor, List[DataSample]]


class GraphedTrainStep:
    """A model's training step as one CUDA graph.

    Forward, backward, gradient clipping and the optimizer run by one launch,
    so that the host no longer limits a small model. The values are those of
    the step that is run op by op. A step whose gradients are not finite
    changes no parameter.

    The first steps of a shape of batch or of a stage, all batches of another
    shape, and the steps in which the distiller measures gradients are run op
    by op.

    Args:
        model (BaseModel): The model, on a CUDA device.
        optim_wrapper (OptimWrapper): With a fused optimizer.
        warmup (int): Steps before the graph is made. Defaults to 3.

    Raises:
        ValueError: If the optimizer does not fit.
    """

    def __init__(self,
                 model: BaseModel,
                 optim_wrapper: OptimWrapper,
                 warmup: int = 3) -> None:
        _check_optimizer(optim_wrapper)
        self.model = model
        self.optimizer = optim_wrapper.optimizer
        self.clip = optim_wrapper.clip_grad_kwargs
        self.warmup = warmup
        groups = self.optimizer.param_groups
        for group in groups:
            group['capturable'] = True
        self.lr = torch.tensor([group['lr'] for group in groups],
                               device=next(model.parameters()).device)
        self.graph: Optional[torch.cuda.CUDAGraph] = None
        self._key: Any = None
        self._seen = 0

    def __call__(self, data: Any,
                 optim_wrapper: OptimWrapper) -> Dict[str, Any]:
        """Train on a batch; takes the place of ``model.train_step``.

        Args:
            data (Any): What the dataloader gave.
            optim_wrapper (OptimWrapper): The one told at the start.

        Returns:
            Dict[str, Any]: Values for the log.
        """
        data = self.model.data_preprocessor(data, True)
        batch = data['inputs'], data['data_samples']
        key = self._describe(batch)
        if key != self._key:
            self._key, self._seen, self.graph = key, 0, None
        if self._is_measured() or (self.graph is None
                                   and self._seen < self.warmup):
            self._seen += 1
            return self._run_eagerly(batch, optim_wrapper)
        if self.graph is None:
            self._capture(batch, optim_wrapper)
        self._fill(batch)
        self.graph.replay()
        values = self.values.tolist()
        return dict(zip(self.names, values))

    def _describe(self, batch: Batch) -> tuple:
        """Tell what a graph is made for."""
        inputs, samples = batch
        distiller = getattr(self.model, 'distiller', None)
        return (inputs.shape, inputs.dtype, len(samples),
                [t.shape for t in _targets(samples)],
                getattr(distiller, 'progress',
                        None), getattr(distiller, 'calibrating', None))

    def _is_measured(self) -> bool:
        """Tell whether the distiller measures gradients in this step."""
        distiller = getattr(self.model, 'distiller', None)
        return distiller is not None and bool(distiller.shared_names())

    def _run_eagerly(self, batch: Batch,
                     optim_wrapper: OptimWrapper) -> Dict[str, Tensor]:
        # those of the graph's last step must not be added to
        self.optimizer.zero_grad(set_to_none=True)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        # a graph can only follow steps of a stream that is not the default
        with torch.cuda.stream(side):
            with optim_wrapper.optim_context(self.model):
                losses = self.model(*batch, mode='loss')
            loss, log_vars = self.model.parse_losses(losses)
            optim_wrapper.update_params(loss)
        torch.cuda.current_stream().wait_stream(side)
        return log_vars

    def _capture(self, batch: Batch, optim_wrapper: OptimWrapper) -> None:
        inputs, samples = batch
        self.inputs = inputs.clone()
        self.targets = [t.clone() for t in _targets(samples)]
        samples = _with_targets(samples, self.targets)
        groups = self.optimizer.param_groups
        told = [group['lr'] for group in groups]
        self.optimizer.zero_grad(set_to_none=True)
        for group, lr in zip(groups, self.lr):
            group['lr'] = lr
        try:
            self.graph, _ = capture(
                lambda: self._step(samples, optim_wrapper), warmup=0)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f'{error}. Often a loss looks at values on the host, as '
                'LabelSmoothLoss does at hard labels (set '
                'data_preprocessor.to_onehot=True). Change it, or remove '
                'CUDAGraphHook from the hooks of the config.') from error
        finally:
            self.optimizer.found_inf = None
            for group, lr in zip(groups, told):
                group['lr'] = lr

    def _step(self, samples: List[DataSample],
              optim_wrapper: OptimWrapper) -> None:
        """Run the step that is recorded."""
        with optim_wrapper.optim_context(self.model):
            losses = self.model(self.inputs, samples, mode='loss')
        loss, log_vars = self.model.parse_losses(losses)
        loss.backward()
        grads = [
            p for group in self.optimizer.param_groups for p in group['params']
            if p.grad is not None
        ]
        limits = dict(max_norm=float('inf')) if self.clip is None else \
            self.clip
        norm = torch.nn.utils.clip_grad_norm_(grads, **limits)
        # a fused optimizer leaves the step out if this is 1
        skipped = (~norm.isfinite()).float()
        self.optimizer.found_inf = skipped
        self.optimizer.step()
        values = dict(log_vars, grad_norm=norm, **{SKIPPED: skipped})
        self.names = list(values)
        self.values = torch.stack(
            [v.detach().float() for v in values.values()])

    def _fill(self, batch: Batch) -> None:
        """Give the graph its batch and learning rates."""
        inputs, samples = batch
        self.inputs.copy_(inputs)
        torch._foreach_copy_(self.targets, _targets(samples))
        rates = [group['lr'] for group in self.optimizer.param_groups]
        self.lr.copy_(torch.tensor(rates))


def _targets(samples: Sequence[DataSample]) -> List[Tensor]:
    """Collect labels and scores, each kind in one tensor, or texts."""
    if isinstance(samples, LabelledBatch):
        return [samples.labels, samples.scores]
    out = []
    if 'gt_label' in samples[0]:
        out.append(torch.cat([s.gt_label for s in samples]))
    if 'gt_score' in samples[0]:
        out.append(torch.stack([s.gt_score for s in samples]))
    if 'groups' in samples[0]:
        out += [*samples[0].get('text').values(), samples[0].get('groups')]
    return out


def _with_targets(samples: Sequence[DataSample],
                  targets: List[Tensor]) -> List[DataSample]:
    """Make samples like these that look into the given tensors."""
    if isinstance(samples, LabelledBatch):
        return LabelledBatch(*targets)
    made = [DataSample() for _ in samples]
    targets = list(targets)
    if 'gt_label' in samples[0]:
        sizes = [len(s.gt_label) for s in samples]
        for new, part in zip(made, targets.pop(0).split(sizes)):
            new.set_field(part, 'gt_label', dtype=Tensor)
    if 'gt_score' in samples[0]:
        for new, part in zip(made, targets.pop(0)):
            new.set_field(part, 'gt_score', dtype=Tensor)
    if 'groups' in samples[0]:
        made[0].set_field(dict(zip(samples[0].get('text'), targets)), 'text')
        made[0].set_field(targets[-1], 'groups')
    return made


def _check_optimizer(optim_wrapper: OptimWrapper) -> None:
    """Refuse what a graph cannot hold."""
    optimizer = optim_wrapper.optimizer
    where = 'CUDAGraphHook in custom_hooks'
    if not optimizer.defaults.get('fused'):
        raise ValueError(
            f'{where} needs a fused optimizer, but {type(optimizer).__name__} '
            'is not; set optim_wrapper.optimizer.fused=True, or remove the '
            'hook.')
    if optim_wrapper._accumulative_counts != 1:
        raise ValueError(
            f'{where} cannot accumulate gradients; set '
            'optim_wrapper.accumulative_counts=1, or remove the hook.')
    if getattr(optim_wrapper, 'cast_dtype', None) is torch.float16:
        raise ValueError(
            f'{where} does not scale losses, as float16 needs; set '
            "optim_wrapper.dtype='bfloat16', or remove the hook.")
