_base_ = 'transmamba_runtime.py'

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=500, save_best=None))
log_processor = dict(by_epoch=False)
