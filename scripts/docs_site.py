# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Hooks of MkDocs (mkdocs.yml): pages from outside docs/, pages of the code, and their links.

README and its neighbours are written for the repository, where their links lead to files. On the
site a link leads to the page that was made of the file; where none was, its text stays.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Pages of the site that are files outside docs/.
OUTSIDE = {
    'index.md': 'README.md',
    'contributing.md': 'CONTRIBUTING.md',
    'quality.md': 'QUALITY_DECLARATION.md',
    'examples.md': 'examples/README.md',
    'models.md': 'models/items/README.md',
}
#: Folders whose README is a page under another name.
FOLDERS = {'examples': 'examples.md', 'docs/howto': 'howto/README.md'}
PACKAGES = ('stl_conveyor', 'stl_conveyor_lab')
_FENCE = re.compile(r'(^```.*?^```)', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)')


def rooms(package: str) -> list[str]:
    """Return the packages and modules right below a package, such as 'stl_conveyor.cell'."""
    return [
        f'{package}.{path.stem}'
        for path in sorted(ROOT.joinpath(*package.split('.')).iterdir())
        if (path / '__init__.py').is_file()
        or (path.suffix == '.py' and path.stem not in ('__init__', '__main__'))
    ]


def offered() -> list[str]:
    """Return the names that `import stl_conveyor` offers."""
    tree = ast.parse((ROOT / 'stl_conveyor' / '__init__.py').read_text(encoding='utf-8'))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__':
            return list(ast.literal_eval(node.value))
    raise LookupError('stl_conveyor/__init__.py has no __all__')


def defined(module: Path) -> list[str]:
    """Return the public names that a file defines itself, and does not import."""
    names = []
    for node in ast.parse(module.read_text(encoding='utf-8')).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.append(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.append(ast.unparse(node.target))
        elif isinstance(node, ast.Assign):
            names += map(ast.unparse, node.targets)
    return [name for name in names if not name.startswith('_')]


def described(module: str, page: str) -> Iterator[str]:
    """Yield what mkdocstrings is told of a module and, after it, of what lies in it.

    Name by name, since it would show what a package imports once more.
    """
    path = ROOT.joinpath(*module.split('.'))
    is_package = path.is_dir()
    members = defined(path / '__init__.py' if is_package else path.with_suffix('.py'))
    heading = 'false' if module == page else 'true'
    yield f'::: {module}\n    options:\n      show_submodules: false'
    yield f'      members: [{", ".join(members)}]' if members else '      members: false'
    yield f'      show_root_heading: {heading}\n      show_root_toc_entry: {heading}\n'
    if is_package:
        for inner in rooms(module):
            yield from described(inner, page)


def code_pages() -> dict[str, str]:
    """Return the text of the pages that mkdocstrings fills, by their path."""
    names = '\n'.join(f'::: stl_conveyor.{name}\n' for name in offered())
    pages = {
        'api/index.md': '# import stl_conveyor\n\nThe names that the package itself offers, each '
        f'with an example that a test runs. The pages below have all the rest.\n\n{names}'
    }
    for package in PACKAGES:
        for room in rooms(package):
            pages[f'api/{room}.md'] = f'# {room}\n\n' + '\n'.join(described(room, room))
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the code to the navigation."""
    pages = {
        package: [{room: f'api/{room}.md'} for room in rooms(package)] for package in PACKAGES
    }
    product, laboratory = pages.values()
    config.nav.append({'Code': ['api/index.md', *product, {'stl_conveyor_lab': laboratory}]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for page, text in code_pages().items():
        files.append(File.generated(config, page, content=text))
    return files


def page_of(path: str) -> str | None:
    """Return the place in the site of a file of the repository, or None if it has none."""
    for page, source in OUTSIDE.items():
        if path == source:
            return page
    if path in FOLDERS:
        return FOLDERS[path]
    return path.removeprefix('docs/') if path.startswith('docs/') else None


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links lead to pages of the site."""
    here = page.file.src_uri
    source = posixpath.dirname(OUTSIDE.get(here, f'docs/{here}'))

    def relink(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        if re.match(r'\w+:|#', target):
            return match[0]
        path, mark, fragment = target.partition('#')
        place = page_of(posixpath.normpath(posixpath.join(source, path)))
        if place is None:
            return text
        # A picture in a link's text has its own target.
        text = _LINK.sub(relink, text)
        way = posixpath.relpath(place, posixpath.dirname(here) or '.')
        return f'{image}[{text}]({way}{mark}{fragment})'

    parts = _FENCE.split(markdown)
    return ''.join(part if _FENCE.match(part) else _LINK.sub(relink, part) for part in parts)
