_base_ = 'transllava-tiny-64_1xb128-6e_easy-vqa.py'

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:work_dirs/llava-tiny-64_1xb128-12e_easy-vqa/epoch_12.pth}}'  # noqa: E501

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
            config='{{ fileDirname }}/llava-tiny-64_1xb128-12e_easy-vqa.py',
            checkpoint=teacher_checkpoint)),
]
