"""The checkpoint hook and the guard with two gloo processes on a CPU."""
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import transmamba_mm  # noqa: F401  (a spawned process has no conftest)
from tests.test_engine.noisy_run import build_runner, read_losses
from tests.test_engine.test_hooks.test_non_finite_guard_hook import train
from tests.test_engine.test_hooks.test_resumable_checkpoint_hook import \
    interrupt_and_resume
from transmamba_mm.utils.saved_batch import load_batch


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def work(rank, port, folder):
    """What each process does; the parent looks at the files."""
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    dist.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    build_runner(f'{folder}/straight', launcher='pytorch').train()
    dist.barrier()
    interrupt_and_resume(f'{folder}/resumed', 2, launcher='pytorch')
    # a loss without a gradient is known to one process alone
    modes = {2: 'forward'} if rank == 1 else {4: 'detached'}
    _, schedule, log, error = train(
        f'{folder}/guard', modes, 12, launcher='pytorch')
    torch.save(
        dict(
            states=schedule.states,
            report=[line for line in log if 'not finite' in line],
            error=error), f'{folder}/guard_{rank}.pth')
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    mp.spawn(work, (free_port(), str(tmp_path)), nprocs=2)
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    for rank in range(2):
        assert read_losses(straight, rank) == read_losses(resumed, rank)
    assert read_losses(straight, 0) != read_losses(straight, 1)
    guards = [torch.load(tmp_path / f'guard_{rank}.pth') for rank in range(2)]
    assert [guard['error'] for guard in guards] == [None, None]
    # The main process, which writes the log, had only finite values itself.
    assert "'poison'" in guards[0]['report'][0]
    weights = [[state['model']['module.last.weight'] for state in g['states']]
               for g in guards]
    for a, b in zip(*weights):
        assert torch.equal(a, b)
    assert torch.equal(weights[0][2], weights[0][3])
    assert not torch.equal(weights[0][3], weights[0][4])
    assert torch.equal(weights[0][4], weights[0][5])
    # each of the two files comes from the process that had the bad batch
    files = sorted((tmp_path / 'guard/non_finite').iterdir())
    assert [p.name for p in files] == ['iter_3.pth', 'iter_5.pth']
    reasons = [load_batch(str(p))['reason'] for p in files]
    assert "'poison'" in reasons[0] and 'loss_extra' in reasons[1]
