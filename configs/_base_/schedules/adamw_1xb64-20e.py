# Handwritten digits, 20 epochs (our choice)
_base_ = 'adamw_8xb128-300e.py'

optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=1.0))

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=2,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=2,
        convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=20)
auto_scale_lr = dict(base_batch_size=64)
