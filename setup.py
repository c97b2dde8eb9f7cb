"""Installation of transmamba_mm."""
import os
import os.path as osp
import shutil
import sys

from setuptools import find_packages, setup

HERE = osp.dirname(osp.abspath(__file__))
#: Commands of pip that install the working tree itself.
EDITABLE = ('develop', 'editable_wheel')


def read(*parts: str) -> str:
    with open(osp.join(HERE, *parts), encoding='utf-8') as f:
        return f.read()


def version() -> str:
    scope = {}
    exec(read('transmamba_mm', 'version.py'), scope)
    return scope['__version__']


def requirements(name: str) -> list:
    lines = read('requirements', f'{name}.txt').splitlines()
    return [s.strip() for s in lines if s.strip() and s[0] not in '#-']


def add_mim_extension() -> None:
    """Put configs, tools and the model index where MIM looks for them.

    An editable install gets links, any other install copies.
    """
    link = any(command in sys.argv for command in EDITABLE)
    target = osp.join(HERE, 'transmamba_mm', '.mim')
    os.makedirs(target, exist_ok=True)
    for name in ('tools', 'configs', 'model-index.yml'):
        source, place = osp.join(HERE, name), osp.join(target, name)
        if not osp.exists(source):
            continue
        remove(place)
        if link:
            os.symlink(osp.relpath(source, target), place)
        elif osp.isdir(source):
            shutil.copytree(
                source, place, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copyfile(source, place)


def remove(path: str) -> None:
    if osp.islink(path) or osp.isfile(path):
        os.remove(path)
    elif osp.isdir(path):
        shutil.rmtree(path)


if __name__ == '__main__':
    add_mim_extension()
    setup(
        name='transmamba_mm',
        version=version(),
        description='TransMamba for OpenMMLab: Mamba students that learn '
        'from Transformers',
        long_description=read('README.md'),
        long_description_content_type='text/markdown',
        license='Apache-2.0',
        keywords='computer vision, Mamba, knowledge distillation, OpenMMLab',
        packages=find_packages(include=('transmamba_mm', 'transmamba_mm.*')),
        package_data={
            'transmamba_mm': [
                'py.typed', '.mim/model-index.yml', '.mim/**/*.py',
                '.mim/**/*.yml', '.mim/**/*.sh', '.mim/**/*.md',
                '.mim/**/*.j2', '.mim/**/*.css'
            ]
        },
        python_requires='>=3.10',
        install_requires=requirements('runtime'),
        extras_require=dict(
            docs=requirements('docs'),
            kernels=requirements('kernels'),
            lora=requirements('lora'),
            multimodal=requirements('multimodal'),
            tests=requirements('tests'),
            tune=requirements('tune')),
        classifiers=[
            'Operating System :: OS Independent',
            'Programming Language :: Python :: 3',
        ],
        zip_safe=False)
