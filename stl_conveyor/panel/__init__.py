# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the operator's page shows of a cell; knows neither ROS nor the web."""
