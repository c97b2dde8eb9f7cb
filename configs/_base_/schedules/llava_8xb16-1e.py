# LLaVA-1.5's second stage: 665k samples once, 128 at a time
_base_ = 'llava_8xb32-1e.py'

optim_wrapper = dict(optimizer=dict(lr=2e-5))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=156),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.,
        by_epoch=False,
        begin=156,
        end=5197),
]

train_cfg = dict(max_iters=5197)
auto_scale_lr = dict(base_batch_size=128)
