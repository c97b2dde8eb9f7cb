# Teacher on CIFAR-10 at 32 pixels, 200 epochs (our choice)
_base_ = 'adamw_8xb128-300e.py'

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))

train_cfg = dict(max_epochs=200)
auto_scale_lr = dict(base_batch_size=256)
