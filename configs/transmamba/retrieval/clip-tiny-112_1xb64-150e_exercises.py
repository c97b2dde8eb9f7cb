_base_ = [
    '../../_base_/models/retrieval_clip-tiny-112.py',
    '../../_base_/datasets/exercises.py',
    '../../_base_/schedules/retrieval_1xb64-150e.py',
    '../../_base_/retrieval_runtime.py',
]

# the students' recipes find their teacher in `open_clip` of the work folder
custom_hooks = [dict(type='transmamba_mm.ExportOpenCLIPHook')]
