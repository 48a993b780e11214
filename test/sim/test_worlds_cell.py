# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The Gazebo world and the MuJoCo model are the same cell, and it is that of config/cell.yaml."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.sim import gazebo_world
from stl_conveyor.sim.arrivals import plan_items
from stl_conveyor.sim.gazebo.items import SLOTS, collision_shapes, feed_pose, item_sdf
from stl_conveyor.sim.gazebo.world import world_sdf
from stl_conveyor.sim.mesh import mass_properties, mesh_path, read_stl
from stl_conveyor.sim.parts import CLASS_IDS, PARTS

ROOT = Path(__file__).resolve().parents[2]
CELL = CellDescription.load(ROOT / 'config' / 'cell.yaml')
WORLD = ElementTree.parse(ROOT / 'worlds' / 'cell.sdf').getroot().find('world')
BRIDGES = {
    name: yaml.safe_load((ROOT / 'config' / name).read_text(encoding='utf-8'))
    for name in ('gazebo_bridge.yaml', 'gazebo_camera_bridge.yaml')
}


def numbers(element, path):
    return [float(word) for word in element.findtext(path).split()]


def model(name):
    return next(found for found in WORLD.findall('model') if found.get('name') == name)


def plugin(element, name):
    return next(
        found
        for found in element.findall('plugin')
        if found.get('name') == f'gz::sim::systems::{name}'
    )


def boxes(element):
    """Return {collision: (low corner, high corner)} of a model's boxes, in the world."""
    found = {}
    for link in element.findall('link'):
        for collision in link.findall('collision'):
            size = np.array(numbers(collision, 'geometry/box/size'))
            centre = sum(
                np.array(numbers(part, 'pose')[:3])
                for part in (element, link, collision)
                if part.find('pose') is not None
            )
            found[collision.get('name')] = (centre - size / 2, centre + size / 2)
    return found


def bridged(ros_topic):
    return [row for rows in BRIDGES.values() for row in rows if row['ros_topic_name'] == ros_topic]


@pytest.fixture(scope='module')
def mujoco_cell():
    """Return the compiled MuJoCo model of the cell."""
    mujoco = pytest.importorskip('mujoco', reason='the embedded cell needs mujoco')
    from stl_conveyor.sim.scene import cell_xml

    return mujoco.MjModel.from_xml_string(cell_xml(CELL, 2))


def geom_box(compiled, name):
    """Return the corners of a box of the MuJoCo model, in the world."""
    geom = compiled.geom(name)
    centre = geom.pos + compiled.body(int(geom.bodyid[0])).pos
    return centre - geom.size, centre + geom.size


# The files --------------------------------------------------------------------------------------


def test_the_shipped_files_are_those_that_the_description_gives():
    for name, content in gazebo_world.files_of(CELL).items():
        path = gazebo_world.shipped_files()[name]
        assert path.read_text(encoding='utf-8') == content, f'{path}: run `make world`'


def test_another_cell_gives_another_world(tmp_path, capsys):
    text = (ROOT / 'config' / 'cell.yaml').read_text(encoding='utf-8')
    (tmp_path / 'mine.yaml').write_text(text.replace('name: B', 'name: bolts'), encoding='utf-8')
    assert (
        gazebo_world.main(['--cell', str(tmp_path / 'mine.yaml'), '--out', str(tmp_path / 'out')])
        == 0
    )
    world = ElementTree.parse(tmp_path / 'out' / 'cell.sdf').getroot().find('world')
    assert 'pusher_bolts' in {found.get('name') for found in world.findall('model')}
    rows = yaml.safe_load((tmp_path / 'out' / 'gazebo_bridge.yaml').read_text())
    assert 'pusher_bolts/cmd_pos' in {row['ros_topic_name'] for row in rows}
    assert str(tmp_path / 'out' / 'cell.sdf') in capsys.readouterr().out


def test_a_wrong_description_is_refused(tmp_path, capsys):
    (tmp_path / 'wrong.yaml').write_text('belt: {speed: 1}', encoding='utf-8')
    assert gazebo_world.main(['--cell', str(tmp_path / 'wrong.yaml')]) == 2
    assert 'wrong.yaml' in capsys.readouterr().err


def test_names_are_those_of_gazebo_and_of_no_older_simulator():
    for found in WORLD.iter('plugin'):
        assert found.get('filename').startswith('gz-sim-')
        assert found.get('filename').endswith('-system')
        assert found.get('name').startswith('gz::sim::systems::')
    assert float(ElementTree.parse(ROOT / 'worlds/cell.sdf').getroot().get('version')) <= 1.9
    systems = {found.get('name').rsplit('::', 1)[-1] for found in WORLD.findall('plugin')}
    assert systems == {'Physics', 'UserCommands', 'SceneBroadcaster', 'Contact', 'Sensors'}
    assert WORLD.find('physics').get('type') == 'dart'
    assert plugin(WORLD, 'Sensors').findtext('render_engine') == 'ogre2'


def parser_command():
    for program in ('gz', 'ign'):
        if shutil.which(program):
            listed = subprocess.run([program, '--help'], capture_output=True, text=True)
            if 'sdf' in listed.stdout:
                return program
    return ''


@pytest.mark.skipif(
    not parser_command(),
    reason='no `gz sdf`: apt install libsdformat-dev and gz-tools2 or ignition-tools',
)
@pytest.mark.parametrize('what', ['world', 'hex_bolt_m8x40', 'lock_nut_m8', 'spur_gear_z24'])
def test_the_parser_accepts_world_and_items(what, tmp_path):
    path = tmp_path / 'checked.sdf'
    if what == 'world':
        path.write_text(world_sdf(CELL), encoding='utf-8')
    else:
        path.write_text(item_sdf(item_of(what), 1, 0), encoding='utf-8')
    done = subprocess.run(
        [parser_command(), 'sdf', '--check', str(path)], capture_output=True, text=True, timeout=60
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and 'Valid' in said and 'Error' not in said, said
    assert 'Warning' not in said, said


# Geometry ---------------------------------------------------------------------------------------


def test_belt(mujoco_cell):
    belt = model('belt')
    low, high = boxes(belt)['belt_collision']
    assert (low[0], high[0]) == pytest.approx((CELL.belt.start, CELL.belt.end))
    assert high[1] - low[1] == pytest.approx(CELL.belt.width)
    assert high[2] == pytest.approx(0.0)
    for ours, theirs in zip((low, high), geom_box(mujoco_cell, 'belt')):
        assert ours == pytest.approx(theirs, abs=1e-6)
    controller = plugin(belt, 'TrackController')
    assert controller.findtext('link') == 'base_link'
    assert float(controller.findtext('max_velocity')) >= CELL.belt.speed
    assert 0 < float(controller.findtext('max_command_age')) <= 1.0
    surface = belt.find('link/collision/surface/friction/ode')
    assert float(surface.findtext('mu2')) < float(surface.findtext('mu'))
    assert float(surface.findtext('mu')) == pytest.approx(mujoco_cell.geom('belt').friction[0])


def test_camera(mujoco_cell):
    camera = model('camera')
    sensor = camera.find('link/sensor')
    pose = numbers(camera, 'pose')
    assert pose[:3] == pytest.approx((CELL.camera.x, 0, CELL.camera.height))
    theirs = mujoco_cell.camera('belt')
    assert pose[:3] == pytest.approx(list(theirs.pos))
    assert pose[3:] == pytest.approx((0, math.pi / 2, 0), abs=1e-5)
    # Gazebo looks along x with z up, MuJoCo along -z with y up. After the pitch, x points down and
    # z along the belt; the same must hold of the other's axes.
    w, x, y, z = theirs.quat
    up = np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)])
    assert up == pytest.approx((1, 0, 0), abs=1e-6)
    width, height = (int(sensor.findtext(f'camera/image/{edge}')) for edge in ('width', 'height'))
    assert (width, height) == (CELL.camera.image_width, CELL.camera.image_height)
    half = math.tan(float(sensor.findtext('camera/horizontal_fov')) / 2) * CELL.camera.height
    assert 2 * half * height / width == pytest.approx(CELL.camera.field_of_view, rel=1e-6)
    assert math.degrees(2 * math.atan(half * height / width / CELL.camera.height)) == (
        pytest.approx(float(theirs.fovy[0]), rel=1e-5)
    )
    for name in ('gz_frame_id', 'camera/optical_frame_id'):
        assert sensor.findtext(name) == 'camera_optical_frame'
    # Between two frames no item may get so far that its crop leaves the image.
    shift = CELL.belt.speed / float(sensor.findtext('update_rate')) / 2
    assert shift * CELL.camera.pixels_per_metre <= (height - CELL.camera.crop_size) / 2


@pytest.mark.parametrize('lane', CELL.lanes, ids=lambda lane: lane.name)
def test_pusher(lane, mujoco_cell):
    pusher = model(f'pusher_{lane.name}')
    low, high = boxes(pusher)['paddle_collision']
    assert (low[0] + high[0]) / 2 == pytest.approx(lane.diverter_x)
    assert high[0] - low[0] == pytest.approx(CELL.diverter.paddle_width)
    for ours, theirs in zip((low, high), geom_box(mujoco_cell, f'paddle_{lane.name}')):
        assert ours == pytest.approx(theirs, abs=1e-6)
    joint = next(found for found in pusher.findall('joint') if found.get('type') == 'prismatic')
    assert numbers(joint, 'axis/xyz') == list(mujoco_cell.joint(f'pusher_{lane.name}').axis)
    # No stroke reaches a limit: the engine would hold the joint there.
    assert float(joint.findtext('axis/limit/lower')) < 0
    assert float(joint.findtext('axis/limit/upper')) > CELL.diverter.stroke
    control = plugin(pusher, 'JointPositionController')
    assert control.findtext('joint_name') == joint.get('name')
    speed = float(control.findtext('cmd_max'))
    assert speed <= float(joint.findtext('axis/limit/velocity'))
    # The paddle must be at the belt's centre line by the time that the description promises.
    assert low[1] / speed <= CELL.diverter.lead_time
    assert plugin(pusher, 'JointStatePublisher').findtext('joint_name') == joint.get('name')


@pytest.mark.parametrize('name', [*(lane.name for lane in CELL.lanes), CELL.reject_lane])
def test_bin(name, mujoco_cell):
    parts = boxes(model(f'bin_{name}'))
    assert len(parts) == 5
    for part, corners in parts.items():
        for ours, theirs in zip(corners, geom_box(mujoco_cell, part)):
            assert ours == pytest.approx(theirs, abs=1e-6), part
    low, high = parts[f'bin_{name}_floor']
    if name == CELL.reject_lane:
        assert low[0] == pytest.approx(CELL.belt.end)
    else:
        assert low[0] < CELL.lane(name).diverter_x < high[0]
        assert high[1] < -CELL.belt.width / 2


def test_break_beam():
    beam = model('break_beam')
    x, y, z, roll, pitch, yaw = numbers(beam, 'pose')
    assert (x, y) == (CELL.break_beam.x, 0)
    assert (roll, yaw) == (0, 0) and pitch == pytest.approx(math.pi / 2, abs=1e-5)
    scan = beam.find('link/sensor/lidar/scan/horizontal')
    reach = z * math.tan(float(scan.findtext('max_angle')))
    assert 0.8 * CELL.belt.width / 2 < reach < CELL.belt.width / 2
    assert float(scan.findtext('min_angle')) == -float(scan.findtext('max_angle'))
    # Two rays lie closer together than the smallest part is wide.
    smallest = min(
        np.ptp(read_stl(mesh_path(part.name)).reshape(-1, 3)[:, :2], axis=0).min()
        for part in PARTS
    )
    assert 2 * reach / (int(scan.findtext('samples')) - 1) < smallest / 4
    # The camera does not see the head.
    assert CELL.camera.x - x > CELL.camera.field_of_view / 2 + 0.03


def test_items_touch_everything_and_pushers_touch_items_alone():
    item = ElementTree.fromstring(item_sdf(item_of('hex_nut_m8'), 1, 0))

    def groups(element):
        return {int(mask.text, 0) for mask in element.iter('collide_bitmask')}

    (items,) = groups(item)
    for found in WORLD.findall('model'):
        for mask in groups(found):
            assert mask & items, found.get('name')
            if found.get('name').startswith('pusher_'):
                for other in WORLD.findall('model'):
                    if not other.get('name').startswith('pusher_'):
                        assert not any(mask & theirs for theirs in groups(other))


# Topics -----------------------------------------------------------------------------------------


def test_bridge_rows_are_complete_and_each_connects_once():
    seen = set()
    for name, rows in BRIDGES.items():
        for row in rows:
            assert set(row) == {
                'ros_topic_name',
                'gz_topic_name',
                'ros_type_name',
                'gz_type_name',
                'direction',
            }
            assert row['gz_topic_name'] not in seen
            seen.add(row['gz_topic_name'])
            # Relative names go into the namespace of the cell; only the clock is shared.
            assert row['ros_topic_name'] == '/clock' or not row['ros_topic_name'].startswith('/')
            camera = row['ros_topic_name'].startswith('camera/')
            assert camera == (name == 'gazebo_camera_bridge.yaml')


def test_gazebo_topics_of_the_bridge_are_those_of_the_world():
    def gz(topic):
        return {row['gz_topic_name'] for row in bridged(topic)}

    link = plugin(model('belt'), 'TrackController').findtext('link')
    assert gz('belt/cmd_vel') == {f'/model/belt/link/{link}/track_cmd_vel'}
    assert gz('belt/odometry') == {f'/model/belt/link/{link}/odometry'}
    assert gz('camera/image_raw') == {model('camera').findtext('link/sensor/topic')}
    assert gz('break_beam/scan') == {model('break_beam').findtext('link/sensor/topic')}
    world = WORLD.get('name')
    for lane in CELL.lanes:
        pusher = f'pusher_{lane.name}'
        joint = plugin(model(pusher), 'JointPositionController').findtext('joint_name')
        assert gz(f'{pusher}/cmd_pos') == {f'/model/{pusher}/joint/{joint}/0/cmd_pos'}
        assert f'/world/{world}/model/{pusher}/joint_state' in gz('joint_states')
    assert len(gz('joint_states')) == len(CELL.lanes)
    names = {
        ElementTree.fromstring(item_sdf(item_of('hex_nut_m8'), 1, slot)).find('model').get('name')
        for slot in range(SLOTS)
    }
    assert gz('item_poses') == {f'/model/{name}/pose' for name in names}


def test_ros_topics_of_the_bridge_are_those_of_the_nodes():
    topics = pytest.importorskip('stl_conveyor.nodes.base.topics').TOPICS
    for topic in topics:
        if topic.outside.startswith('Gazebo') or topic.name in (
            'camera/image_raw',
            'joint_states',
            '/clock',
        ):
            names = [topic.name]
            if 'namespace' in topic.outside:
                names = [f'pusher_{lane.name}/{topic.name}' for lane in CELL.lanes]
            for name in names:
                rows = bridged(name)
                assert rows, name
                for row in rows:
                    assert row['ros_type_name'] == topic.message_type.replace('/', '/msg/')
                    to_ros = not topic.publishers or topic.name in ('camera/image_raw', '/clock')
                    assert row['direction'] == ('GZ_TO_ROS' if to_ros else 'ROS_TO_GZ')


# Items ------------------------------------------------------------------------------------------


def item_of(class_id):
    plan = plan_items(1, 7, [class_id])
    return replace(plan[0], appearance_seed=5)


@pytest.mark.parametrize('part', PARTS, ids=lambda part: part.name)
def test_item_weighs_what_its_mesh_weighs(part):
    mujoco = pytest.importorskip('mujoco', reason='weighs the mesh by itself')
    compiled = mujoco.MjModel.from_xml_string(
        f'<mujoco><asset><mesh name="m" inertia="exact" file="{mesh_path(part.name)}"/></asset>'
        '<worldbody><body name="b"><freejoint/><geom type="mesh" mesh="m" density="7850"/></body>'
        '</worldbody></mujoco>'
    ).body('b')
    link = ElementTree.fromstring(item_sdf(item_of(part.name), 1, 3)).find('model/link')
    inertia = {
        name: float(link.findtext(f'inertial/inertia/{name}'))
        for name in ('ixx', 'ixy', 'ixz', 'iyy', 'iyz', 'izz')
    }
    matrix = np.array(
        [
            [inertia['ixx'], inertia['ixy'], inertia['ixz']],
            [inertia['ixy'], inertia['iyy'], inertia['iyz']],
            [inertia['ixz'], inertia['iyz'], inertia['izz']],
        ]
    )
    assert float(link.findtext('inertial/mass')) == pytest.approx(compiled.mass[0], rel=2e-3)
    assert numbers(link, 'inertial/pose')[:3] == pytest.approx(list(compiled.ipos), abs=2e-5)
    assert np.sort(np.linalg.eigvalsh(matrix)) == pytest.approx(
        np.sort(compiled.inertia), rel=5e-3
    )


@pytest.mark.parametrize('part', PARTS, ids=lambda part: part.name)
def test_collision_shapes_hold_the_mesh_and_little_more(part):
    points = read_stl(mesh_path(part.name)).reshape(-1, 3)
    shapes = collision_shapes(part.name)
    corners = np.concatenate([shape.corners() for shape in shapes])
    assert corners.min(axis=0) == pytest.approx(points.min(axis=0), abs=1.1e-3)
    assert corners.max(axis=0) == pytest.approx(points.max(axis=0), abs=1.1e-3)
    assert all(min(shape.size) > 0.001 for shape in shapes)
    assert part.rest == 'flat' or len(shapes) == 2


def test_meshes_are_named_by_uri_and_a_folder_elsewhere_can_be_given():
    def uris(text):
        return [uri.text for uri in ElementTree.fromstring(text).iter('uri')]

    item = item_of('lock_nut_m8')
    for uri in uris(item_sdf(item, 1, 0)):
        assert uri.startswith('file:///') and Path(uri[7:]).is_file()
    assert uris(item_sdf(item, 1, 0, 'model://stl_conveyor/meshes/')) == [
        'model://stl_conveyor/meshes/lock_nut_m8.stl',
        'model://stl_conveyor/meshes/lock_nut_m8_insert.stl',
    ]


def test_items_are_let_go_just_above_the_belt_where_the_embedded_feeder_lets_go():
    for item in plan_items(64, 3, CLASS_IDS):
        position, quaternion = feed_pose(CELL, item, 3)
        assert np.linalg.norm(quaternion) == pytest.approx(1)
        assert position[0] == pytest.approx(CELL.belt.start + 0.05)
        assert position[1] == item.lateral_offset
        x, y, z, w = quaternion
        turn = np.array([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)])
        corners = np.concatenate([shape.corners() for shape in collision_shapes(item.class_id)])
        assert position[2] + (corners @ turn).min() == pytest.approx(0.0015)
        flat = next(part for part in PARTS if part.name == item.class_id).rest == 'flat'
        assert (abs(turn[2]) > 0.99) == flat and (flat or abs(turn[2]) < 0.1)


def test_the_finish_is_that_of_the_embedded_cell():
    from stl_conveyor.sim.parts import finish_of

    item = item_of('hex_nut_m8')
    visual = ElementTree.fromstring(item_sdf(item, 9, 0)).find('model/link/visual')
    assert numbers(visual, 'material/diffuse')[:3] == pytest.approx(
        list(finish_of(item, 9).rgb), abs=1e-5
    )


def test_volume_and_inertia_of_a_known_body():
    corners = np.array(np.meshgrid([0, 2], [0, 1], [0, 3], indexing='ij'), float).reshape(3, -1).T
    faces = [
        (0, 1, 3),
        (0, 3, 2),
        (4, 6, 7),
        (4, 7, 5),
        (0, 4, 5),
        (0, 5, 1),
        (2, 3, 7),
        (2, 7, 6),
        (0, 2, 6),
        (0, 6, 4),
        (1, 5, 7),
        (1, 7, 3),
    ]
    found = mass_properties(corners[np.array(faces)], density=2.0)
    assert found.mass == pytest.approx(12.0)
    assert found.centre == pytest.approx((1.0, 0.5, 1.5))
    assert found.inertia == pytest.approx(np.diag([1 + 9, 4 + 9, 4 + 1]) * 12.0 / 12)


def publishes_model_pose(parameters, version):
    """Return whether PosePublisher of a gz-sim version publishes the pose of a model.

    Before 8.10, and in 9.0, the pose of every model goes out with those of the nested ones or not
    at all; since then the two have parameters of their own.
    """
    model_pose = parameters.findtext('publish_model_pose') == 'true'
    nested_pose = parameters.findtext('publish_nested_model_pose') == 'true'
    together = version < (8, 10) or (9, 0) <= version < (9, 1)
    return model_pose and (nested_pose or not together)


@pytest.mark.parametrize('version', [(8, 0), (8, 9), (8, 10), (8, 14), (9, 0), (9, 5), (10, 4)])
def test_items_tell_their_pose_in_every_version_of_gazebo(version):
    described = ElementTree.fromstring(item_sdf(item_of('hex_nut_m8'), 1, 0)).find('model')
    parameters = plugin(described, 'PosePublisher')
    assert publishes_model_pose(parameters, version)
    assert parameters.findtext('publish_link_pose') == 'false'


def test_the_rule_of_the_pose_publisher_refuses_what_old_versions_do_not_publish():
    parameters = ElementTree.fromstring(
        '<plugin><publish_model_pose>true</publish_model_pose>'
        '<publish_nested_model_pose>false</publish_nested_model_pose></plugin>'
    )
    assert not publishes_model_pose(parameters, (8, 9))
    assert not publishes_model_pose(parameters, (9, 0))
    assert publishes_model_pose(parameters, (8, 10))
