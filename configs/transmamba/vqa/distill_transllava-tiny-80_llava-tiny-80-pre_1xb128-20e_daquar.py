_base_ = 'transllava-tiny-80_1xb128-20e_daquar.py'

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/llava-tiny-80_1xb128-20e_daquar/epoch_20.pth}}'  # noqa: E501

model = dict(
    type='transmamba_mm.DistillTransLlava',
    distiller=dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=192,
        teacher_depth=6))

custom_hooks = [
    dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.LlavaTeacher',
            config='{{ fileDirname }}/llava-tiny-80_1xb128-20e_daquar.py',
            checkpoint=teacher_checkpoint)),
]
