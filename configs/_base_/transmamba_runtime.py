_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['transmamba_mm'], allow_failed_imports=False)

default_hooks = dict(
    # whole checkpoints and exact resuming
    checkpoint=dict(
        _delete_=True,
        type='transmamba_mm.ResumableCheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='auto'),
    # a step that is not finite never reaches the weights
    guard=dict(type='transmamba_mm.NonFiniteGuardHook', action='skip'),
    # which images a fraction of the data holds
    data_subset=dict(type='transmamba_mm.DataSubsetHook'))

randomness = dict(seed=0)
