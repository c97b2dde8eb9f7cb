"""When a run counts as a fresh start."""
from mmengine.hooks import Hook
from mmengine.registry import MODEL_WRAPPERS
from mmpretrain.registry import HOOKS
from torch import nn

from tests.toy import make_runner, vit_cfg
from transmamba_mm.utils.runner import is_fresh_start, unwrap


@HOOKS.register_module(force=True)
class AskHook(Hook):
    """Keep the answer in ``before_train``."""

    def before_train(self, runner):
        self.answer = is_fresh_start(runner)


def ask(work_dir, **kwargs):
    runner = make_runner(work_dir, vit_cfg(16, 1), [dict(type='AskHook')],
                         **kwargs)
    runner.train()
    return [h for h in runner.hooks if isinstance(h, AskHook)][0].answer


def test_is_fresh_start(tmp_path):
    assert ask(tmp_path / 'a')
    checkpoint = str(tmp_path / 'a' / 'epoch_1.pth')
    assert not ask(tmp_path / 'b', load_from=checkpoint)
    assert not ask(tmp_path / 'a', resume=True, epochs=2)
    assert not ask(tmp_path / 'c', resume=True, load_from=checkpoint, epochs=2)
    assert ask(tmp_path / 'd', resume=True), 'there was nothing to resume'


@MODEL_WRAPPERS.register_module(force=True)
class Wrapper(nn.Module):
    """Stand for a distributed wrapper."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_unwrap():
    model = nn.Linear(2, 2)
    assert unwrap(model) is model
    assert unwrap(Wrapper(model)) is model
