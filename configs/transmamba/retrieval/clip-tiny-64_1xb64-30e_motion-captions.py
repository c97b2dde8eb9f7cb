_base_ = [
    '../../_base_/models/retrieval_clip-tiny-64.py',
    '../../_base_/datasets/motion-captions.py',
    '../../_base_/schedules/retrieval_1xb64-30e.py',
    '../../_base_/retrieval_runtime.py',
]

# the students' recipes find their teacher in `open_clip` of the work folder
custom_hooks = [dict(type='transmamba_mm.ExportOpenCLIPHook')]
