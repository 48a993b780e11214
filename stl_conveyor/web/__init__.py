# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The operator's page in the browser, by NiceGUI; knows no ROS."""
