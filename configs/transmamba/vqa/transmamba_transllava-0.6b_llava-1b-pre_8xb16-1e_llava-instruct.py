_base_ = 'transllava-0.6b_8xb16-1e_llava-instruct.py'

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/llava-1b_8xb16-1e_llava-instruct/iter_5197.pth}}'  # noqa: E501

model = dict(
    type='transmamba_mm.DistillTransLlava',
    distiller=dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=2048,
        teacher_depth=16))

custom_hooks = [
    dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.LlavaTeacher',
            config='{{ fileDirname }}/llava-1b_8xb16-1e_llava-instruct.py',
            checkpoint=teacher_checkpoint)),
]
