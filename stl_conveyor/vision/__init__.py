# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Images: pixels from messages and files, item detection, folders of labelled pictures."""
