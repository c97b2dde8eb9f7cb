"""Two gloo processes learn what one learns from the joined batch."""
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS

import transmamba_mm  # noqa: F401  (a spawned process has no conftest)
from tests.test_distributed import free_port
from transmamba_mm.models import CLIP4ClipTeacher
from .test_distill_text_video_retrieval import folder  # noqa: F401
from .toy_videos import batch, retrieval_cfg

HEADS = ('MeanPoolHead', 'SequenceHead', 'CrossMambaHead')


def build(head, teacher=None):
    torch.manual_seed(0)
    few = dict(num_candidates=3) if head == 'CrossMambaHead' else {}
    model = MODELS.build(
        retrieval_cfg(head, None if teacher is None else {}, **few))
    model.init_weights()
    if head == 'CrossMambaHead':
        for p in model.head.fusion.parameters():
            torch.nn.init.normal_(p, std=0.1)
    if teacher is not None:
        model.attach_teacher(teacher)
    return model


def one_step(model, wrapped, indices):
    """Return the logged values and the weights after a step."""
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logs = wrapped.train_step(batch(indices), optim)
    return {k: v.item() for k, v in logs.items()}, model.state_dict()


def train(rank, port, clip, out):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    results = {}
    for head in HEADS:
        teacher = None
        if head == 'CrossMambaHead':
            teacher = CLIP4ClipTeacher(clip)
        model = build(head, teacher)
        wrapped = MMDistributedDataParallel(
            module=model, find_unused_parameters=False)
        results[head] = one_step(model, wrapped, range(3 * rank, 3 * rank + 3))
    with pytest.raises(ValueError, match='drop_last'):
        indices = range(2 + rank)
        data = model.data_preprocessor(batch(indices), True)
        build('MeanPoolHead')(**data, mode='loss')
    torch.save(results, f'{out}/rank{rank}.pth')
    dist.destroy_process_group()


def test_loss_and_gradients_are_those_of_the_joined_batch(
        tmp_path, folder):  # noqa: F811
    mp.spawn(train, (free_port(), str(folder), str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f'rank{r}.pth') for r in range(2)]
    for head in HEADS:
        teacher = None
        if head == 'CrossMambaHead':
            teacher = CLIP4ClipTeacher(str(folder))
        model = build(head, teacher)
        logs, state = one_step(model, model, range(6))
        names = {'loss', 'nce', 'rerank', 'distill.loss_similarity'}
        for name in names & set(logs) - ({'loss'} if teacher else set()):
            for rank in ranks:
                assert rank[head][0][name] == pytest.approx(
                    logs[name], abs=1e-4), (head, name)
        for name, value in state.items():
            for rank in ranks:
                torch.testing.assert_close(
                    rank[head][1][name],
                    value,
                    atol=2e-5,
                    rtol=1e-3,
                    msg=lambda m: f'{head} {name}: {m}')
