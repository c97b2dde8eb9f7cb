"""Images for the quickstart: handwritten digits, or the user's folder."""
import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from transmamba_mm.utils.atomic_io import atomic_write

ENDINGS = {'.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.webp', '.tif', '.tiff'}
VAL_SHARE = 0.2


@dataclass
class Task:
    """A classification task as MMPretrain's ``CustomDataset`` reads it.

    Args:
        name (str): Shown to the user.
        data_root (str): Folder that the paths in the lists start from.
        lists (str): Folder with ``train.txt`` and ``val.txt``.
        classes (List[str]): Class names.
        img_size (int): Side in pixels that images are resized to.
        num_train (int): Training images.
        num_val (int): Validation images.
        notes (List[str]): What was done about the images, for the user.
    """
    name: str
    data_root: str
    lists: str
    classes: List[str]
    img_size: int
    num_train: int
    num_val: int
    notes: List[str] = field(default_factory=list)

    def describe(self) -> str:
        """Say in one line what is trained on."""
        return (f'{self.name}: {self.num_train} training and {self.num_val} '
                f'validation images, {len(self.classes)} classes, '
                f'{self.img_size} x {self.img_size} pixels')


def prepare(folder: Optional[str], work_dir: Path, digits: Path) -> Task:
    """Find or write the images, and list them once.

    At 16 pixels the digits, at 32 the user's.

    Args:
        folder (str, optional): The user's image folder; None writes
            scikit-learn's handwritten digits.
        work_dir (Path): Where the lists are kept.
        digits (Path): Where the digits are written.

    Returns:
        Task: The task; the same one on a second start.

    Raises:
        SystemExit: If the work dir is that of another folder.
    """
    root = digits if folder is None else Path(folder).expanduser().resolve()

    def make() -> Task:
        if folder is None:
            return list_images(
                write_digits(root), work_dir, 'handwritten digits', 16)
        return list_images(root, work_dir, root.name, 32)

    task = remember(work_dir, root, make)
    for note in task.notes:
        print(note, flush=True)
    return task


def remember(work_dir: Path, root: Path, make: Callable[[], Task]) -> Task:
    """Take the task of an earlier start, or make and keep one.

    Args:
        work_dir (Path): Where ``task.json`` is.
        root (Path): Folder of the images.
        make (Callable): Makes the task.

    Returns:
        Task: The task.

    Raises:
        SystemExit: If the work dir is that of another folder.
    """
    known = work_dir / 'task.json'
    if known.exists():
        task = Task(**json.loads(known.read_text()))
        if task.data_root != str(root):
            raise SystemExit(
                f'{work_dir} holds the runs on {task.data_root}, not on '
                f'{root}; give another --work-dir.')
        return task
    task = make()
    atomic_write(str(known), json.dumps(asdict(task), indent=2).encode())
    return task


def write_digits(root: Path) -> Path:
    """Write scikit-learn's 1,797 digits as 16-pixel PNG files.

    Args:
        root (Path): Target; gets ``train`` and ``val`` with a folder a class.

    Returns:
        Path: The same folder.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    digits = load_digits()
    indices = np.arange(len(digits.target))
    train, val = train_test_split(
        indices, test_size=VAL_SHARE, random_state=0, stratify=digits.target)
    for split, chosen in (('train', train), ('val', val)):
        for i in sorted(chosen):
            target = root / split / str(digits.target[i])
            target.mkdir(parents=True, exist_ok=True)
            pixels = (digits.images[i] * 255 / 16).astype('uint8')
            image = Image.fromarray(pixels).resize((16, 16), Image.BILINEAR)
            image.convert('RGB').save(target / f'{i:04d}.png')
    return root


def list_images(root: Path,
                lists: Path,
                name: str,
                img_size: int,
                keep_lone: bool = True) -> Task:
    """Write ``train.txt`` and ``val.txt``, leaving unreadable files out.

    Args:
        root (Path): Folder with a sub-folder a class, or with ``train`` and
            ``val`` (or ``test``) of that form. Without a split, a fifth of
            each class is kept for validation.
        lists (Path): Where the lists are written.
        name (str): Name of the task.
        img_size (int): Side in pixels.
        keep_lone (bool): Whether a class with a single image is an error
            where the split is made here; it is left out otherwise. Defaults
            to True.

    Returns:
        Task: The task, with a note on everything left out.
    """
    notes: List[str] = []
    train_root, val_root = find_splits(root)
    files = read_classes(train_root, notes)
    if val_root is None:
        if not keep_lone:
            files = leave_out_lone(files, notes)
        train, val = split_classes(files)
        notes.append(
            'There is no validation folder: a fifth of each class, always '
            'the same images, is kept for validation.')
    else:
        train, val = files, read_classes(val_root, notes)
        strange = sorted(set(val) - set(train))
        if strange:
            raise SystemExit(
                f'{val_root} has classes without training images: {strange}.')
    classes = sorted(files)
    check_count(train_root, classes)
    for split, chosen in (('train', train), ('val', val)):
        rows = [
            f'{path.relative_to(root)} {classes.index(label)}'
            for label in sorted(chosen) for path in chosen[label]
        ]
        (lists / f'{split}.txt').write_text('\n'.join(rows) + '\n')
    count = [sum(map(len, part.values())) for part in (train, val)]
    return Task(name, str(root), str(lists), classes, img_size, *count, notes)


def find_splits(root: Path) -> Tuple[Path, Optional[Path]]:
    """Look for a ready split.

    Args:
        root (Path): The user's folder.

    Returns:
        Tuple[Path, Optional[Path]]: Training folder, and validation folder
        if there is one.
    """
    if not root.is_dir():
        raise SystemExit(f'DATA={root} is no folder; give a folder with one '
                         'sub-folder of images a class.')
    train = root / 'train'
    for other in ('val', 'valid', 'validation', 'test'):
        if train.is_dir() and (root / other).is_dir():
            return train, root / other
    return (train if train.is_dir() else root), None


def read_classes(folder: Path, notes: List[str]) -> Dict[str, List[Path]]:
    """List the readable images of each class.

    Args:
        folder (Path): One sub-folder a class.
        notes (List[str]): Gets a line on the unreadable ones.

    Returns:
        Dict[str, List[Path]]: Class name to sorted files.
    """
    classes, broken = {}, []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        files = [
            p for p in sorted(sub.rglob('*')) if p.suffix.lower() in ENDINGS
        ]
        with ThreadPoolExecutor() as pool:
            whole = list(pool.map(is_image, files))
        good = [p for p, fine in zip(files, whole) if fine]
        broken += [p for p, fine in zip(files, whole) if not fine]
        if good:
            classes[sub.name] = good
    if broken:
        shown = ', '.join(str(p.relative_to(folder)) for p in broken[:5])
        more = ' and others' if len(broken) > 5 else ''
        notes.append(f'{len(broken)} unreadable images are left out: '
                     f'{shown}{more}.')
    check_count(folder, sorted(classes))
    return classes


def check_count(folder: Path, classes: List[str]) -> None:
    """Refuse a task with less than two classes.

    Args:
        folder (Path): Named in the message.
        classes (List[str]): Names of the classes.
    """
    if len(classes) < 2:
        raise SystemExit(
            f'{folder} holds usable images of {len(classes)} classes; at '
            'least two sub-folders with images are needed.')


def leave_out_lone(files: Dict[str, List[Path]],
                   notes: List[str]) -> Dict[str, List[Path]]:
    """Drop classes with one image, which cannot be split.

    Args:
        files (Dict[str, List[Path]]): Class name to files.
        notes (List[str]): Gets a line on them.

    Returns:
        Dict[str, List[Path]]: The other classes.
    """
    lone = [label for label, paths in files.items() if len(paths) < 2]
    if lone:
        notes.append(f'Classes with a single image are left out, since one '
                     f'cannot both train and validate: {", ".join(lone)}.')
    return {k: v for k, v in files.items() if len(v) > 1}


def is_image(path: Path) -> bool:
    """Tell whether a file can be decoded.

    Args:
        path (Path): The file.

    Returns:
        bool: True if Pillow reads it to the end.
    """
    from PIL import Image
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:
        return False
    return True


def split_classes(
        files: Dict[str,
                    List[Path]]) -> Tuple[Dict[str, list], Dict[str, list]]:
    """Keep a fifth of each class, at least one image, for validation.

    Args:
        files (Dict[str, List[Path]]): Class name to files.

    Returns:
        Tuple[Dict[str, list], Dict[str, list]]: Training and validation
        files, the same for the same folder.
    """
    train, val = {}, {}
    for label, paths in files.items():
        if len(paths) < 2:
            raise SystemExit(f"Class '{label}' has one image; at least two "
                             'are needed, to train and to validate.')
        paths = list(paths)
        random.Random(f'{label}-0').shuffle(paths)
        cut = max(1, round(VAL_SHARE * len(paths)))
        val[label], train[label] = sorted(paths[:cut]), sorted(paths[cut:])
    return train, val
