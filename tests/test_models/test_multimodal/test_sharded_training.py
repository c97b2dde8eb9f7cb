"""FSDP by MMEngine's strategy: two gloo processes clone, distil and save."""
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.runner import FlexibleRunner

import transmamba_mm  # noqa: F401  (a spawned process has no conftest)
from tests.test_distributed import free_port
from transmamba_mm.registry import MODELS
from .test_llava_run import folder, loader  # noqa: F401
from .toy_llava import make_tokenizer, model_cfg

RECIPE = ('configs/transmamba/vqa/transmamba_transllava-0.6b_llava-1b-pre_'
          '8xb16-1e_llava-instruct_fsdp.py')


def student(tokenizer, **kwargs):
    return model_cfg(
        tokenizer,
        freeze=(),
        language=dict(gradient_checkpointing=True),
        distiller=dict(
            type='transmamba_mm.BidirectionalDistiller',
            teacher_dims=32,
            teacher_depth=2),
        **kwargs)


def config(root, tokenizer):
    """The strategy and hooks of the recipe, in a small run on CPUs."""
    recipe = Config.fromfile(Path(__file__).parents[3] / RECIPE)
    strategy = recipe.strategy
    strategy.model_wrapper.update(device_id='cpu')
    # the library's default moves tensors to the CPU, which they are on
    parts = dict(offload_to_cpu=False)
    strategy.state_dict_cfg = dict(
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(type='FullStateDictConfig', **parts),
        optim_state_dict_config=dict(type='FullOptimStateDictConfig', **parts))
    checkpoint = str(root / 'teacher.pth')
    cfg = student(tokenizer)
    cfg['type'] = 'transmamba_mm.DistillTransLlava'
    return dict(
        model=cfg,
        work_dir=str(root / 'run'),
        strategy=strategy,
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        train_dataloader=loader(root, tokenizer, False),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
        custom_hooks=[
            dict(
                type='transmamba_mm.WeightSubcloneHook',
                checkpoint=checkpoint,
                prefix='language_model.',
                plan=dict(num_heads=4),
                copy=('vision_tower', 'projector')),
            dict(
                type='transmamba_mm.BidirectionalDistillHook',
                teacher=dict(
                    type='transmamba_mm.LlavaTeacher',
                    config=model_cfg(tokenizer, 'llama'),
                    checkpoint=checkpoint))
        ],
        randomness=dict(seed=0),
        default_scope='mmpretrain')


def train(rank, port, root):
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    root = Path(root)
    tokenizer = make_tokenizer(root / f'tokenizer{rank}')
    runner = FlexibleRunner.from_cfg(Config(config(root, tokenizer)))
    runner.train()
    own = sum(p.numel() for p in runner.model.parameters())
    whole = sum(p.numel() for p in MODELS.build(runner.cfg.model).parameters())
    scalars = runner.message_hub.log_scalars
    torch.save(
        dict(
            share=own / whole,
            losses={
                k: float(v.current())
                for k, v in scalars.items() if 'loss' in k
            }), root / f'rank{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.filterwarnings('ignore')
def test_two_processes_share_a_training(folder):  # noqa: F811
    tokenizer = make_tokenizer(folder / 'tokenizer')
    torch.manual_seed(0)
    teacher = MODELS.build(model_cfg(tokenizer, 'llama'))
    torch.save(
        dict(state_dict=teacher.state_dict()), str(folder / 'teacher.pth'))
    mp.spawn(train, (free_port(), str(folder)), nprocs=2)
    ranks = [torch.load(folder / f'rank{r}.pth') for r in range(2)]
    for rank in ranks:
        assert 0.4 < rank['share'] < 0.6
        assert rank['losses']['train/distill.loss_answer'] > 0
    state = torch.load(
        folder / 'run' / 'epoch_2.pth', weights_only=False)['state_dict']
    model = MODELS.build(
        student(tokenizer) | dict(type='transmamba_mm.DistillTransLlava'))
    model.load_state_dict(state)
    # two steps away from what was cloned, and not further
    words = 'language_model.backbone.embeddings.weight'
    taught = teacher.state_dict()['language_model.model.embed_tokens.weight']
    assert 0 < (state[words] - taught).abs().max() < 0.05
