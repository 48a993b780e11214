# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The device's end of a slow link."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.link.link_gateway import DEVICE_RELAYS, LinkGateway


class DeviceGateway(LinkGateway):
    """See the module; it stands where link_emulator stands in simulation."""

    NAME = 'device_gateway'
    RELAYS = DEVICE_RELAYS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(DeviceGateway, arguments)


if __name__ == '__main__':
    sys.exit(main())
