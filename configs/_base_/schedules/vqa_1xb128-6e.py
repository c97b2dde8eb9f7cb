# Small models on questions about small images, 6 epochs (our choice)
_base_ = 'adamw_8xb128-300e.py'

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, betas=(0.9, 0.98)),
    clip_grad=dict(max_norm=1.0),
    # tied words are one parameter
    paramwise_cfg=dict(bypass_duplicate=True))

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-2,
        by_epoch=True,
        end=1,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=1,
        convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=6)
auto_scale_lr = dict(base_batch_size=128)
