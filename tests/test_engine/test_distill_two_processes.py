"""Stages, measured maps and balances with two gloo processes on a CPU."""
import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmpretrain.registry import MODELS

import transmamba_mm  # noqa: F401  (a spawned process has no conftest)
from tests.test_engine.test_hooks.test_bidirectional_distill_hook import (
    STAGES, find_hook, train)
from tests.test_engine.test_two_processes import free_port
from tests.toy import vit_cfg
from transmamba_mm.engine.hooks import \
    bidirectional_distill_hook as distill_hook_module
from transmamba_mm.models.distillers.cka import pick_layers


def work(rank, port, folder):
    """Train with each balance; the parent looks at the files."""
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    dist.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    out, matrices = {}, []

    def keep(matrix):
        matrices.append(matrix)
        return pick_layers(matrix)

    distill_hook_module.pick_layers = keep
    for balance in ('constant', 'grad_norm', 'uncertainty'):
        runner = train(
            f'{folder}/{balance}',
            f'{folder}/teacher.pth',
            dict(layer_map='cka', balance=balance, features='block'),
            hook=dict(stages=STAGES),
            launcher='pytorch',
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=False))
        states = find_hook(runner, 'EpochStatesHook').states
        out[balance] = dict(
            states=states,
            loss=float(runner.message_hub.get_scalar('train/loss').current()),
            layer_map=runner.model.module.distiller.layer_map)
    out['matrices'] = matrices
    torch.save(out, f'{folder}/rank_{rank}.pth')
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(vit_cfg())
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    mp.spawn(work, (free_port(), str(tmp_path)), nprocs=2)
    a, b = (torch.load(tmp_path / f'rank_{r}.pth') for r in range(2))
    matrices = zip(a.pop('matrices'), b.pop('matrices'))
    assert all(torch.equal(x, y) for x, y in matrices)
    for balance, run in a.items():
        other = b[balance]
        assert run['layer_map'] == other['layer_map']
        assert run['loss'] != other['loss'], 'each sees its own images'
        for mine, its in zip(run['states'], other['states']):
            differ = [k for k, v in mine.items() if not torch.equal(v, its[k])]
            assert all('running_' in k for k in differ)
        start, calibrated, distilled, _ = run['states']
        key = 'module.backbone.layers.0.mamba.in_proj.weight'
        assert torch.equal(start[key], calibrated[key])
        assert not torch.equal(calibrated[key], distilled[key])
    factor = a['grad_norm']['states'][2]['module.distiller.balance.factor']
    assert factor not in (0, 1)
