# LLaVA-1.5's first stage, the projector alone: 558k samples, 256 at a time
_base_ = 'adamw_8xb128-300e.py'

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=0.),
    clip_grad=dict(max_norm=1.0),
    # tied words are one parameter
    paramwise_cfg=dict(bypass_duplicate=True))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=65),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.,
        by_epoch=False,
        begin=65,
        end=2180),
]

train_cfg = dict(_delete_=True, by_epoch=False, max_iters=2180)
val_cfg = None
test_cfg = None
auto_scale_lr = dict(base_batch_size=256)
