# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Let Atheris look for bytes with which a target of fuzz_targets.py fails.

`python test/fuzz_with_atheris.py packet -max_total_time=60`; what follows the name are options of
libFuzzer. Ends with another code than 0, and keeps the bytes in a file, when it has found some.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=['stl_conveyor']):
    from fuzz_targets import TARGETS, play


def main() -> None:
    """Fuzz."""
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    if name not in TARGETS:
        sys.exit(f'usage: fuzz_with_atheris.py {"|".join(TARGETS)} [-max_total_time=60 ...]')
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: play(name, data))
    atheris.Fuzz()


if __name__ == '__main__':
    main()
