_base_ = 'transmamba_transllava-0.6b_llava-1b-pre_8xb16-1e_llava-instruct.py'

# weights, gradients and optimizer state are shared out over the cards
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    model_wrapper=dict(use_orig_params=True),
    state_dict_cfg='full')

# MMEngine's own hook saves what is shared out
default_hooks = dict(
    checkpoint=dict(
        _delete_=True, type='CheckpointHook', by_epoch=False, interval=500),
    guard=None)
