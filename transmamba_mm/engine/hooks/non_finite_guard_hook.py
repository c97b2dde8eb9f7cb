import logging
import math
import os.path as osp
import shlex
from typing import Any, Dict, List, Optional, Tuple

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from transmamba_mm.registry import HOOKS
from transmamba_mm.utils.non_finite import (explain_non_finite,
                                            tie_gradients_to_loss)
from transmamba_mm.utils.random_state import get_random_state, set_random_state
from transmamba_mm.utils.replay import describe_state
from transmamba_mm.utils.runner import unwrap
from transmamba_mm.utils.saved_batch import save_batch
from ..graphed_train_step import SKIPPED


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Keep NaN and infinity out of the weights (our choice).

    Right before each optimizer step the gradients are checked, at the cost of
    one synchronisation. If one is not finite, all are dropped: weights,
    optimizer moments and buffers (BatchNorm statistics) stay as they were
    before the iteration. A loss that is not finite makes its gradients so,
    and thus is noticed too.

    The batch is then run once more, and only then are the layers watched:
    the first one with NaN or infinity is named, with the scan direction and
    the ranges of its input and output. Batch, weights and random states are
    saved in ``non_finite`` in the work dir, for
    ``tools/analysis_tools/replay_batch.py``.

    Gradients are checked after their reduction over the processes, so that
    all processes agree. Under float16 the loss scaler leaves out the steps
    whose scaled gradients overflow; that is its normal work and not reported,
    unless the loss itself is not finite, or the scale has fallen below 1.

    Args:
        action (str): What to do about such an iteration. Defaults to 'skip'.

            - 'skip': log a warning and go on, at most ``max_consecutive``
              times in a row.
            - 'stop': end the training with the same report.
        max_consecutive (int): Skipped steps in a row that end the training.
            Defaults to 20.
        max_files (int): Batches that one training saves; 0 saves none.
            Defaults to 2.
        max_megabytes (float): Most of one file. A larger batch is cut to its
            first samples; the weights are left out if they do not fit.
            Defaults to 256.

    Raises:
        ValueError: ``action`` is unknown, or a number is out of range.
        FloatingPointError: During training, see above.

    Examples:
        >>> custom_hooks = [dict(type='transmamba_mm.NonFiniteGuardHook')]
    """

    # Before EMAHook, which copies the buffers after each iteration.
    priority = 'ABOVE_NORMAL'

    ACTIONS = ('skip', 'stop')

    def __init__(self,
                 action: str = 'skip',
                 max_consecutive: int = 20,
                 max_files: int = 2,
                 max_megabytes: float = 256.) -> None:
        if action not in self.ACTIONS:
            raise ValueError(
                f'NonFiniteGuardHook: action must be one of {self.ACTIONS}, '
                f'got {action!r}; change `action` in `custom_hooks`')
        if max_consecutive < 1:
            raise ValueError(
                'NonFiniteGuardHook: max_consecutive must be at least 1, got '
                f'{max_consecutive}; change it in `custom_hooks`')
        if max_files < 0 or max_megabytes <= 0:
            raise ValueError(
                'NonFiniteGuardHook: max_files must not be negative and '
                f'max_megabytes must be positive, got {max_files} and '
                f'{max_megabytes}; change them in `custom_hooks`')
        self.action = action
        self.max_consecutive = max_consecutive
        self.max_files = max_files
        self.max_megabytes = max_megabytes
        self.num_skipped = 0
        self._num_files = 0
        self._in_a_row = 0
        self._begin_cycle()

    def before_train(self, runner: Runner) -> None:
        """Watch losses and optimizers, and note the buffers to protect.

        Args:
            runner (Runner): The runner of the training process.
        """
        self._handles = [
            wrapper.optimizer.register_step_pre_hook(self._check_gradients)
            for wrapper in _wrappers(runner)
        ]
        model = unwrap(runner.model)
        self._handles.append(
            model.register_forward_hook(tie_gradients_to_loss))
        self._buffers = list(model.buffers())
        self._saved_buffers = [buffer.clone() for buffer in self._buffers]

    def after_train(self, runner: Runner) -> None:
        """Let go of model and optimizers.

        Args:
            runner (Runner): The runner of the training process.
        """
        for handle in self._handles:
            handle.remove()

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Optional[dict] = None) -> None:
        """Save what a bad batch can spoil.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): The index of the batch.
            data_batch (dict, optional): The batch. Defaults to None.
        """
        self._random_state = get_random_state()
        if self._at_cycle_start and self._buffers:
            torch._foreach_copy_(self._saved_buffers, self._buffers)
        self._at_cycle_start = False

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[Dict[str, Tensor]] = None) -> None:
        """Report an iteration whose step was left out.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): The index of the batch.
            data_batch (dict, optional): The batch. Defaults to None.
            outputs (dict, optional): The losses. Defaults to None.
        """
        outputs = outputs or {}
        loss = torch.as_tensor(outputs.get('loss', 0.)).item()
        if SKIPPED in outputs:  # the step was a CUDA graph
            self._dropped = outputs[SKIPPED] > 0
            self._stepped = not self._dropped
        # With gradient accumulation, the first bad batch is the one to show.
        if self._suspect is None or (math.isfinite(self._suspect[0])
                                     and not math.isfinite(loss)):
            self._suspect = (loss, data_batch, self._random_state)
        if not any(wrapper.should_update() for wrapper in _wrappers(runner)):
            return
        if self._dropped or self._scaler_failed(runner):
            self._handle_failure(runner)
        elif self._stepped:
            self._in_a_row = 0
        self._begin_cycle()

    def _begin_cycle(self) -> None:
        """Forget the last step: a cycle is what one optimizer step uses."""
        self._at_cycle_start = True
        self._stepped = False
        self._dropped = False
        self._suspect: Optional[Tuple[float, Any, dict]] = None

    def _check_gradients(self, optimizer: Optimizer, args: tuple,
                         kwargs: dict) -> None:
        """Drop the gradients if one is not finite; runs before the step."""
        if torch.cuda.is_available() and \
                torch.cuda.is_current_stream_capturing():
            return
        # A fused optimizer leaves the step out itself, as the scaler tells it.
        found_inf = getattr(optimizer, 'found_inf', None)
        if found_inf is not None and found_inf.item():
            return
        self._stepped = True
        params = [
            param for group in optimizer.param_groups
            for param in group['params'] if param.grad is not None
        ]
        # A sum of magnitudes keeps NaN and overflows later than squares do.
        norm = torch.nn.utils.get_total_norm([p.grad for p in params], 1.)
        if math.isfinite(norm):
            return
        for param in params:
            param.grad = None
        self._restore_buffers()
        self._dropped = True

    def _restore_buffers(self) -> None:
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._saved_buffers)

    def _scaler_failed(self, runner: Runner) -> bool:
        """Tell whether a step that the loss scaler left out is a failure."""
        scalers = [
            wrapper.loss_scaler for wrapper in _wrappers(runner)
            if getattr(wrapper, 'loss_scaler', None) is not None
        ]
        if self._stepped or not scalers:
            return False
        failed = (not math.isfinite(self._suspect[0])
                  or min(scaler.get_scale() for scaler in scalers) < 1)
        return any(all_gather_object(failed))

    def _handle_failure(self, runner: Runner) -> None:
        """Count, report and, if it must be, stop."""
        self._restore_buffers()
        self.num_skipped += 1
        self._in_a_row += 1
        stop = (
            self.action == 'stop' or self._in_a_row >= self.max_consecutive)
        message = (f'iteration {runner.iter + 1}: the loss is '
                   f'{self._suspect[0]:g} and gradients are not finite.')
        if self._in_a_row == 1 or stop:
            message += f' {self._explain(runner)}'
        message += (' The step was left out, the weights are unchanged '
                    f'({self._in_a_row} in a row).')
        if stop:
            raise FloatingPointError(
                f'{message} Training stops (NonFiniteGuardHook: action='
                f'{self.action!r}, max_consecutive={self.max_consecutive}). '
                'Lower `optim_wrapper.optimizer.lr`, lengthen its warm-up, '
                'set `optim_wrapper.clip_grad`, or train in bfloat16 or '
                'float32 instead of float16 (`optim_wrapper.dtype`, `--amp`); '
                'then go on from the last checkpoint with --resume')
        print_log(message, logger='current', level=logging.WARNING)

    def _explain(self, runner: Runner) -> str:
        """Run the bad batch again, leaving no trace, on every process."""
        _, data_batch, random_state = self._suspect
        state = get_random_state()
        set_random_state(random_state)
        model = unwrap(runner.model)
        try:
            reason = explain_non_finite(
                model, data_batch,
                _wrappers(runner)[0].optim_context(model))
        except RuntimeError as error:
            reason = f'The layer could not be found ({error}).'
        finally:
            set_random_state(state)
            self._restore_buffers()
        reasons = all_gather_object(reason)
        rank = next((i for i, text in enumerate(reasons) if text), 0)
        text = reasons[rank] or ('Running the batch again gave finite values '
                                 'only.')
        return text + self._save(runner, rank, text)

    def _save(self, runner: Runner, rank: int, reason: str) -> str:
        """Save the batch of one process; return what to tell about it."""
        if self._num_files >= self.max_files:
            return ''
        self._num_files += 1
        path = osp.join(runner.work_dir, 'non_finite',
                        f'iter_{runner.iter + 1}.pth')
        text = None
        if get_rank() == rank:
            try:
                text = self._write(runner, path, reason)
            except (OSError, ValueError) as error:
                text = f' The batch could not be saved: {error}.'
        return all_gather_object(text)[rank]

    def _write(self, runner: Runner, path: str, reason: str) -> str:
        """Write the file, and say how to use it."""
        _, data_batch, random_state = self._suspect
        model, wrapper = unwrap(runner.model), _wrappers(runner)[0]
        autocast = None
        if isinstance(wrapper, AmpOptimWrapper):
            dtype = wrapper.cast_dtype
            autocast = 'default' if dtype is None else str(dtype).split('.')[1]
        saved = save_batch(
            path,
            data_batch,
            self.max_megabytes * 1e6,
            iteration=runner.iter + 1,
            reason=reason,
            random_state=random_state,
            autocast=autocast,
            distiller=describe_state(model),
            state_dict=model.state_dict())
        config = osp.join(runner.work_dir,
                          osp.basename(runner.cfg.filename or 'CONFIG.py'))
        text = f' {saved["kept"]} of {saved["total"]} samples are saved'
        text += ' with the weights' if saved['weights'] else ''
        return (f'{text}; run them again by: python tools/analysis_tools/'
                f'replay_batch.py {shlex.quote(config)} {shlex.quote(path)}'
                f'{"" if saved["weights"] else " --checkpoint CHECKPOINT"}.')


def _wrappers(runner: Runner) -> List[OptimWrapper]:
    """Return the optimizer wrappers, one or several."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        return list(wrapper.values())
    return [wrapper]
