# After LLaVA-1.5's second stage: 100k samples once, 128 at a time (our choice)
_base_ = 'llava_8xb16-1e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=24),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.,
        by_epoch=False,
        begin=24,
        end=781),
]

train_cfg = dict(max_iters=781)
