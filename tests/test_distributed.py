"""Two gloo processes on a CPU keep equal weights."""
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import transmamba_mm  # noqa: F401  (a spawned process has no conftest)
from tests.toy import student_cfg, vit_cfg
from transmamba_mm.models import MMPretrainTeacher


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def batch(rank, step):
    generator = torch.Generator().manual_seed(10 * step + rank)
    images = torch.randint(
        0, 255, (4, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return dict(
        inputs=list(images),
        data_samples=[DataSample().set_gt_label(i % 4) for i in range(4)])


def train(rank, port, folder, progress, wrong):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    torch.manual_seed(rank)  # different weights, which rank 0 overwrites
    model = MODELS.build(student_cfg(distiller=dict(logit_weight=0.1)))
    model.init_weights()
    teacher = MMPretrainTeacher(vit_cfg(), f'{folder}/teacher.pth')
    wrapped = MMDistributedDataParallel(
        module=model, find_unused_parameters=False)
    model.attach_teacher(teacher)
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
    for step in range(3):
        model.distiller.progress = progress
        if wrong:  # leave the distiller's parameters out of the loss
            model.distiller.idle_terms = dict
        wrapped.train_step(batch(rank, step), optim)
    torch.save(model.state_dict(), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    torch.save(MODELS.build(vit_cfg()).state_dict(), tmp_path / 'teacher.pth')
    return tmp_path


@pytest.mark.parametrize('progress', [1., 0.])
def test_weights_stay_equal(folder, progress):
    mp.spawn(train, (free_port(), str(folder), progress, False), nprocs=2)
    a, b = (torch.load(folder / f'rank{r}.pth') for r in range(2))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_untouched_parameters_would_be_noticed(folder):
    """The zero term at scale 0 is there for a reason."""
    with pytest.raises(mp.ProcessRaisedException, match='[Ee]xpected to have'):
        mp.spawn(train, (free_port(), str(folder), 0., True), nprocs=2)
