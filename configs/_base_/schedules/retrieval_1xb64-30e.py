# Retrieval on some thousand clips, 30 epochs (our choice)
_base_ = 'adamw_8xb128-300e.py'

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=0.1),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        custom_keys={
            '.logit_scale': dict(decay_mult=0.0),
            '.positional_embedding': dict(decay_mult=0.0),
            '.frame_pos_embed': dict(decay_mult=0.0),
        }))

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=2,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=2,
        convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=30, val_interval=3)
auto_scale_lr = dict(base_batch_size=64)
