# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The floors of the house hold: nothing imports upwards, and the product knows no laboratory."""

from __future__ import annotations

import pytest

cli = pytest.importorskip('importlinter.cli', reason='the floors are checked by import-linter')


def test_every_contract_of_pyproject_is_kept(repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)
    monkeypatch.syspath_prepend(str(repo_root))
    assert cli.lint_imports(config_filename='pyproject.toml', no_cache=True) == 0
