# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The examples in the docstrings of the policies run and give what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import stl_conveyor.policy

pytest.importorskip('onnxruntime')

MODULES = [
    'stl_conveyor.policy',
    *(
        f'stl_conveyor.policy.{module.name}'
        for module in pkgutil.iter_modules(stl_conveyor.policy.__path__)
    ),
]


@pytest.mark.parametrize('name', MODULES)
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_every_offered_class_has_an_example():
    offered = [getattr(stl_conveyor.policy, name) for name in stl_conveyor.policy.__all__]
    without = [
        one.__name__
        for one in (*offered, *stl_conveyor.policy.POLICIES.values())
        if inspect.isclass(one)
        and not issubclass(one, stl_conveyor.policy.Reason)
        and one is not stl_conveyor.policy.Policy
        and '>>>' not in (one.__doc__ or '')
    ]
    assert without == []
