# DeiT's, Vim's and PlainMamba's recipe: 5e-4 a 512 images, 300 epochs
optim_wrapper = dict(
    constructor='transmamba_mm.GroupingOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, eps=1e-8),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            # the state space parameters are no matrices of weights
            '.A_log': dict(decay_mult=0.0),
            '.A_b_log': dict(decay_mult=0.0),
            '.dt_projs_bias': dict(decay_mult=0.0),
            '.direction_Bs': dict(decay_mult=0.0),
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
            '.temporal_pos_embedding': dict(decay_mult=0.0),
        }))

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=5,
        convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# `--auto-scale-lr` scales the learning rate from this batch size
auto_scale_lr = dict(base_batch_size=1024)
