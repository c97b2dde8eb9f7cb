"""What weight subcloning starts from: files, and a teacher to run."""
from typing import Dict, Optional

from torch import Tensor, nn

from transmamba_mm.models.multimodal.vocabulary import stored_vocabulary
from transmamba_mm.models.teachers import FrozenTeacher
from transmamba_mm.subclone import (TeacherState, num_layers, read_mamba,
                                    read_teacher)
from transmamba_mm.subclone.importance import tensor_shape
from transmamba_mm.utils.weight_files import open_weights

IMPORTANCE = ('change', 'magnitude', 'activation')


def check_importance(importance: Optional[str],
                     pretrained_checkpoint: Optional[str]) -> str:
    """Check how units are scored, or choose it.

    Args:
        importance (str, optional): 'change', 'magnitude', 'activation'.
        pretrained_checkpoint (str, optional): The teacher before fine-tuning.

    Returns:
        str: One of the three.

    Raises:
        ValueError: On an unknown one, or one that does not go with
            ``pretrained_checkpoint``.
    """
    if importance is None:
        return 'magnitude' if pretrained_checkpoint is None else 'change'
    where = f"WeightSubcloneHook.importance='{importance}'"
    if importance not in IMPORTANCE:
        raise ValueError(f'{where} is unknown; use one of {IMPORTANCE}.')
    if (importance == 'change') != (pretrained_checkpoint is not None):
        raise ValueError(
            f"{where} with pretrained_checkpoint={pretrained_checkpoint!r}: "
            "'change' compares the teacher with that file, and no other "
            'importance uses it. Give both or neither.')
    return importance


def find_teacher_config(cfg: dict) -> dict:
    """Find the teacher that the run distils from.

    Args:
        cfg (dict): Config of the run.

    Returns:
        dict: The ``teacher`` of the first of ``custom_hooks`` that has one.

    Raises:
        ValueError: If there is none.
    """
    for hook in cfg.get('custom_hooks') or []:
        teacher = hook.get('teacher') if isinstance(hook, dict) else None
        if teacher and isinstance(teacher.get('teacher'), dict):
            return teacher['teacher']  # a cache around a teacher
        if teacher:
            return teacher
    raise ValueError(
        "WeightSubcloneHook.importance='activation' runs the teacher: set "
        '`teacher` of the hook in custom_hooks, such as '
        "dict(type='transmamba_mm.MMPretrainTeacher', config=..., "
        'checkpoint=...).')


def check_scoring_teacher(teacher: FrozenTeacher,
                          source: TeacherState) -> None:
    """Check that the units that are scored are those that are cloned.

    Args:
        teacher (FrozenTeacher): The teacher that is run.
        source (TeacherState): The weights that are cloned.

    Raises:
        ValueError: If depth or width differ.
    """
    width = tensor_shape(source, 'layers.0.norm1.weight')[0]
    found = (num_layers(source), width)
    if found != (teacher.depth, teacher.embed_dims):
        raise ValueError(
            f'`checkpoint` of WeightSubcloneHook has {found[0]} layers of '
            f'width {width}, but the teacher that is run to score its units '
            f'has {teacher.depth} of width {teacher.embed_dims}: give both '
            'the same weights, in `checkpoint` and in `teacher` of the hook.')


def check_words(path: str, source: TeacherState, model: nn.Module,
                language_model: nn.Module) -> None:
    """Check that teacher and student number the same words alike.

    Args:
        path (str): The teacher's file or folder.
        source (TeacherState): Its language model.
        model (nn.Module): The student; its ``vocabulary`` tells its
            tokenizer.
        language_model (nn.Module): Its language model.

    Raises:
        ValueError: If the numbers of words or the tokenizers differ.
    """
    where = '`checkpoint` of WeightSubcloneHook in custom_hooks'
    own = language_model.get_input_embeddings().num_embeddings
    theirs = source.shape('token_embed.weight')[0]
    if own != theirs:
        raise ValueError(
            f"The teacher '{path}' has {theirs} words and the student {own}: "
            'set vocab_size of model.language_model.config and '
            f"model.tokenizer to the teacher's, or change {where}.")
    mark = getattr(model, 'vocabulary', None)
    told = stored_vocabulary(path)
    if mark is not None and told is not None and int(mark) != int(told):
        raise ValueError(
            f"The teacher '{path}' was trained with another tokenizer than "
            "the student's, so that its words are other ones: set "
            f"model.tokenizer to the teacher's, or change {where}.")


def check_ssm_student(path: Optional[str], language_model: nn.Module) -> None:
    """Refuse a language model that a Mamba's parameters do not fit.

    Args:
        path (str, optional): ``ssm_checkpoint`` of the hook.
        language_model (nn.Module): The student's.

    Raises:
        ValueError: If it is no Mamba of the first kind.
    """
    kind = language_model.config.model_type
    if path is not None and kind != 'mamba':
        raise ValueError(
            f"ssm_checkpoint='{path}' of WeightSubcloneHook in custom_hooks "
            f"is for a student of the kind 'mamba', and "
            f"model.language_model is a '{kind}': leave it out, or start from "
            "a trained one by model.language_model.pretrained.")


def read_teacher_file(path: str,
                      key: str,
                      tower: Optional[str] = None) -> TeacherState:
    """Open a teacher's weights; tensors are read when they are used.

    Args:
        path (str): File, folder or URL.
        key (str): The hook's argument that names it, for messages.
        tower (str, optional): See
            :func:`~transmamba_mm.subclone.read_teacher`. Defaults to None.

    Returns:
        TeacherState: Tensors under canonical names. One with NaN or infinity
        raises a ValueError when it is used.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or not of a known Transformer.
    """
    where = f'`{key}` of WeightSubcloneHook in custom_hooks'
    try:
        state = read_teacher(path, tower)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"No teacher weights at '{path}'; change {where}, or train the "
            f'teacher first. {error}') from error
    except ValueError as error:
        raise ValueError(f"Cannot clone from '{path}', given as {where}: "
                         f'{error}') from error
    state.hint = f'Change {where}.'
    return state


def read_mamba_file(path: str) -> Dict[str, Tensor]:
    """Read the state space parameters of a Mamba.

    Args:
        path (str): File, folder or URL.

    Returns:
        Dict[str, Tensor]: See :func:`~transmamba_mm.subclone.read_mamba`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, no Mamba, or not finite.
    """
    where = '`ssm_checkpoint` of WeightSubcloneHook in custom_hooks'
    try:
        state = read_mamba(open_weights(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"No Mamba weights at '{path}'; change {where}. {error}"
        ) from error
    except ValueError as error:
        raise ValueError(f"Cannot start from '{path}', given as {where}: "
                         f'{error}') from error
    broken = [k for k, v in state.items() if not v.isfinite().all()]
    if broken:
        raise ValueError(f"The Mamba weights '{path}' hold NaN or infinity in "
                         f'{broken[:4]}. Change {where}.')
    return state
