_base_ = 'transllava-tiny-80_1xb128-20e_daquar.py'

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/llava-tiny-80_1xb128-20e_daquar/epoch_20.pth}}'  # noqa: E501

custom_hooks = [
    dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=teacher_checkpoint,
        prefix='language_model.',
        plan=dict(preset='qkv_to_ssm', num_heads=3, first_n='all'),
        copy=('vision_tower', 'projector')),
]
