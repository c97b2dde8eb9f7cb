_base_ = 'transmamba_runtime.py'

default_hooks = dict(checkpoint=dict(save_best='vqa/acc', rule='greater'))
