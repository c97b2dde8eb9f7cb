"""Two gloo processes with kept features: the same losses as without."""
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import DATASETS, MODELS
from torch.utils.data import DataLoader

import transmamba_mm  # noqa: F401  (a spawned process has no conftest)
from tests.toy import ToyDataset, make_runner, student_cfg, vit_cfg

LENGTH = 18  # no multiple of 8: the ranks share an image at the end


@DATASETS.register_module(force=True)
class NoisyToyDataset(ToyDataset):
    """The toy task with noise, as an augmentation would draw it."""

    def prepare_data(self, idx):
        sample = super().prepare_data(idx)
        noise = torch.randint(0, 20, sample['inputs'].shape).byte()
        sample['inputs'] = sample['inputs'] // 2 + noise
        return sample


DATASET = dict(
    type='transmamba_mm.FixedAugmentation',
    views=2,
    dataset=dict(type='NoisyToyDataset', length=LENGTH))


def teacher_cfg(folder, cached):
    plain = dict(
        type='transmamba_mm.MMPretrainTeacher',
        config=vit_cfg(),
        checkpoint=f'{folder}/teacher.pth')
    return dict(
        type='transmamba_mm.CachedTeacher',
        teacher=plain,
        cache_dir=f'{folder}/cache') if cached else plain


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def train(folder, cached):
    torch.manual_seed(0)
    model = MODELS.build(student_cfg(distiller=dict(logit_weight=0.1)))
    model.init_weights()
    teacher = MODELS.build(teacher_cfg(folder, cached))
    wrapped = MMDistributedDataParallel(module=model)
    model.attach_teacher(teacher)
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-2))
    dataset = DATASETS.build({**DATASET, 'views': 1})
    sampler = DefaultSampler(dataset, shuffle=True, seed=0)
    loader = DataLoader(
        dataset, batch_size=4, sampler=sampler, collate_fn=pseudo_collate)
    losses, computed = [], []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for batch in loader:
            log = wrapped.train_step(batch, optim)
            losses.append(log['loss'].item())
        computed.append(getattr(teacher, '_computed', None))
        dist.barrier()
    return losses, computed


def work(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    results = [train(folder, cached) for cached in (False, True)]
    torch.save(results, f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    torch.save(MODELS.build(vit_cfg()).state_dict(), tmp_path / 'teacher.pth')
    return tmp_path


def test_losses_are_those_without_a_cache(folder):
    mp.spawn(work, (free_port(), str(folder)), nprocs=2)
    for rank in range(2):
        (plain, _), (kept, computed) = torch.load(folder / f'rank{rank}.pth')
        torch.testing.assert_close(kept, plain, rtol=1e-5, atol=1e-6)
        assert len(set(plain)) == len(plain) == 6
        # the second epoch's images are all there, also the other rank's
        assert computed[0] >= LENGTH // 2 and computed[1] == computed[0]


def run(folder, name, cached, **kwargs):
    loader = dict(
        batch_size=6,
        num_workers=2,
        persistent_workers=True,
        dataset=DATASET,
        sampler=dict(type='DefaultSampler', shuffle=True))
    runner = make_runner(
        folder / name,
        student_cfg(distiller={}), [
            dict(
                type='transmamba_mm.BidirectionalDistillHook',
                teacher=teacher_cfg(folder, cached))
        ],
        train_dataloader=loader,
        **kwargs)
    runner.train()
    return runner.model.state_dict()


def test_runner_with_workers_and_views(folder):
    plain = run(folder, 'plain', False, epochs=2)
    kept = run(folder, 'kept', True, epochs=2)
    for name, x in plain.items():
        torch.testing.assert_close(kept[name], x, rtol=1e-3, atol=1e-4)
