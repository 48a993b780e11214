# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a deployment needs beside the nodes: Fast DDS profiles, SROS2 policies, launch files."""
