# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Clicks on the operator's page, in a real browser, with what they do to the nodes of a cell."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, device_specs  # noqa: E402
from page_clicks import PASSWORD, confirm, log_in, press, put, send_past_the_buttons, wait_refused  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from test_node_camera import frame  # noqa: E402
from test_node_time import SimulatedClock  # noqa: E402

from stl_conveyor_lab.measure.browser import CHROMIUM, MISSING, browser  # noqa: E402

pytest.importorskip('nicegui', reason=MISSING)

from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor.nodes.panel.operator_panel import OperatorPanel  # noqa: E402
from stl_conveyor.panel.accounts import Role, write_account  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]

LONG = 60  # s, for what takes a moment unless the machine is very busy
READERS_OF_CAPTURE = 5  # actuator, local classifier, policy, encoder, page


@pytest.fixture
def new_tab():
    with browser() as opened:
        yield opened


def specs(tmp_path, models):
    """Return the page and what it changes, in simulated time; each role has an account."""
    accounts = tmp_path / 'accounts.yaml'
    for role in Role:
        write_account(accounts, role.value, role, PASSWORD)
    page = {
        'port': 0,
        'accounts_file': str(accounts),
        'alarm_log': '',
        'counts_file': '',
        'change_log': '',
    }
    nodes = [
        NodeSpec(OperatorPanel, page, group='operator_panel'),
        NodeSpec(Camera, {}, group='camera'),
        *device_specs(models, edge=False),
    ]
    return [replace(spec, parameters={**spec.parameters, 'use_sim_time': True}) for spec in nodes]


def logged_in(new_tab, url, role):
    """Return a tab in which somebody of that role has logged in, and their page is there."""
    tab = new_tab()
    log_in(tab, url, role)
    tab.wait(f"document.querySelector('.who')?.innerText.includes('{role} ({role})')")
    return tab


def wait_done(tab, count, what):
    """Wait until the newest of so many changes says what was made."""
    tab.wait(
        f"document.querySelectorAll('.change').length === {count}"
        f" && document.querySelector('.change').innerText.includes('{what}')"
    )


@pytest.mark.timeout(480)
def test_a_click_does_to_the_nodes_what_it_says_and_only_for_who_may(
    tmp_path, tiny_models, new_tab
):
    with CellHarness(
        specs(tmp_path, tiny_models), watched=('/diagnostics', 'sort_outcome')
    ) as cell:
        clock = SimulatedClock(cell)
        try:
            cell.wait_active(LONG)
            click_through(cell, clock, new_tab)
        finally:
            clock.stop()


def click_through(cell, clock, new_tab):
    page, camera, policy, actuator = (
        cell.runner.node(name)
        for name in ('operator_panel', 'camera', 'offload_policy', 'actuator')
    )
    (live,), url = page.live, page.server.url
    frames = cell.publisher('camera/image_raw', Image, timeout=LONG)

    def feed():
        """Show the camera an item, and wait until everybody has it; time stands meanwhile."""
        cell.wait(
            lambda: (
                frames.get_subscription_count() == 1
                and camera._captures.get_subscription_count() == READERS_OF_CAPTURE
                and camera.get_clock().now().nanoseconds == clock.now_ns
            ),
            LONG,
            'that the camera looks, and all hear of items',
        )
        frames.publish(frame(clock.now_ns))
        cell.wait(
            lambda: (
                (item := live.item(clock.now_ns))
                and item.captured
                and item.local
                and actuator.ledger.open_items == 1
            ),
            LONG,
            'the item is known',
        )

    def outcomes():
        return [outcome.item_id for outcome in cell.outcomes()]

    def terms():
        return policy.settings.policy, policy.settings.rate, policy.settings.depth

    # An operator pauses. What is under way is not yet due, and is sorted all the same.
    tab = logged_in(new_tab, url, 'operator')
    with clock.standing():
        feed()
        press(tab, '.control .run')
        confirm(tab, 'runs → paused')
        tab.wait("document.querySelector('.control .pill').innerText === 'paused'")
        assert not camera.is_active
        assert actuator.ledger.open_items == 1 and outcomes() == []
    cell.wait(outcomes, LONG, 'the outcome of what was under way')
    cell.wait(lambda: frames.get_subscription_count() == 0, LONG, 'nobody looks any more')
    assert tab.get("document.querySelector('.control form')") is None
    press(tab, '.control .run')
    confirm(tab, 'paused → runs')
    tab.wait("document.querySelector('.control .pill').innerText === 'runs'")
    assert camera.is_active
    with clock.standing():
        feed()
    cell.wait(lambda: len(outcomes()) > 1, LONG, 'the outcome of what came afterwards')
    assert outcomes() == [1, 2]
    # An engineer changes the policy, and undoes it.
    former = terms()
    assert former == ('always', 1000.0, 1000.0)
    tab = logged_in(new_tab, url, 'engineer')
    tab.wait("document.querySelector('.control [name=policy]')?.value === 'always'")
    put(tab, 'policy', 'threshold', 'change')
    put(tab, 'rate', '0.5')
    put(tab, 'depth', '8')
    press(tab, '.control form .apply')
    confirm(tab, 'always → threshold', '1,000 → 0.5', '1,000 → 8')
    wait_done(tab, 3, 'always → threshold')
    assert terms() == ('threshold', 0.5, 8.0) and policy.is_active
    press(tab, '.change .undo')
    confirm(tab, 'threshold → always', '0.5 → 1,000', '8 → 1,000')
    wait_done(tab, 4, 'threshold → always')
    assert terms() == former and policy.is_active
    # A viewer has no buttons, and is refused what their browser sends without them.
    changes = live.changes.changes()
    assert [(change.who, change.failed) for change in changes] == [
        ('engineer', ''),
        ('engineer', ''),
        ('operator', ''),
        ('operator', ''),
    ]
    tab = logged_in(new_tab, url, 'viewer')
    assert tab.get("document.querySelector('.control')") is None
    for event, value, named in (
        ('change', {'running': False}, 'running'),
        ('change', {'policy': 'threshold', 'rate': 1.0, 'depth': 2.0}, 'policy'),
        ('undo', changes[2].number, 'running'),
    ):
        send_past_the_buttons(tab, event, value)
        wait_refused(tab, f'{named}: the role viewer may not change it')
    assert camera.is_active and terms() == former and live.changes.changes() == changes
