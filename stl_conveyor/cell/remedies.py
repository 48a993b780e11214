# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What to do about each fault that the nodes report on /diagnostics; the one table of it.

The operator's page shows it beside the fault, and docs/nodes.md is compared with it by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Remedy:
    """A row of the table.

    Attributes:
        heading: How people find it: the fault's name, or what the node says (Markdown).
        names: Of the faults; `*` stands for any end, such as the name of a lane or topic.
        nodes: That report it.
        text: What it means, and what to do (Markdown).
    """

    heading: str
    names: tuple[str, ...]
    nodes: str
    text: str

    @property
    def key(self) -> str:
        """Return the name under which translations have it."""
        return self.names[0]


GUARD = 'cell_guard'  # what it says has a table of its own in the documentation

REMEDIES = (
    Remedy(
        '`cannot configure: …`',
        ('configure', 'activate'),
        'any',
        'the message names the file or parameter and the remedy; the node tries again',
    ),
    Remedy(
        '`process_restarted`',
        ('process_restarted',),
        'those of the device',
        'their process crashed, the text says how, and was started again: please report it,'
        ' with what it wrote on standard error',
    ),
    Remedy(
        '`realtime_priority`',
        ('realtime_priority',),
        'any',
        'the system does not permit it: raise `LimitRTPRIO` of the service, or the limit '
        '`rtprio` of the user',
    ),
    Remedy(
        '`stale_port`',
        ('stale_port',),
        'any',
        'what the process of the node sends to another one on this machine does not reach it, '
        'since that one was started again (a race in Fast DDS): start this one again, too',
    ),
    Remedy(
        '`exception`',
        ('exception',),
        'any',
        'a defect of ours: please report it; the node went on',
    ),
    Remedy(
        '`incompatible_qos`',
        ('incompatible_qos',),
        'any',
        'publisher and subscriber differ: compare `qos_overrides` and the watchdog parameters',
    ),
    Remedy(
        '`deadline_missed`, `liveliness_lost`',
        ('deadline_missed', 'deadline_offered_missed', 'liveliness_lost'),
        'any',
        'the watchdogs of `topic_deadline` and `liveliness_lease`',
    ),
    Remedy(
        '`BadMessage`, `bad_probabilities`, `wrong_source`',
        ('BadMessage', 'bad_probabilities', 'wrong_source'),
        'any',
        'a message that no node of ours sends; refused',
    ),
    Remedy(
        '`… publishes what is no …`',
        ('undecodable.*',),
        'any',
        'bytes that cannot be taken apart, counted as `undecodable.TOPIC`, said once a '
        'minute and written nowhere else: stop who the text names, or give it the message '
        'definitions of this version',
    ),
    Remedy(
        '`… publishes it, too, beside …`',
        ('intruder.*',),
        'camera, local_classifier, offload_policy, encoder, actuator, cell_guard, edge_classifier',
        'pictures of a second publisher on the topic: those of the one that was there first are '
        'taken, the others refused and counted as `refused.TOPIC`. The second one has its turn '
        'when the first has left, was silent for 20 s, or for 1.5 s if it has the same name. Or '
        'something that a node of the cell says and another one said, too: only the node is '
        'heard for as long as it is there; another process with a node of its name has its turn '
        'after 0.7 s of silence',
    ),
    Remedy(
        '`stands_by`',
        ('stands_by.*',),
        'camera, actuator',
        'another node of this kind was there first, the text names it; this one publishes '
        'nothing until a second has passed without a sign of life of that. Stop one of them',
    ),
    Remedy(
        '`guard_silent`',
        ('guard_silent',),
        'actuator',
        'nothing came from `cell_guard` for 0.8 s; ends when it speaks, or with `guard_gone`: '
        'look at the machine, which may be too busy',
    ),
    Remedy(
        '`guard_gone`',
        ('guard_gone',),
        'actuator',
        '`cell_guard` is dead, frozen or cut off: nobody watches. Take it that the line must '
        'stand; launch starts the guard again',
    ),
    Remedy(
        '`BadImage`',
        ('BadImage',),
        'camera, local_classifier',
        'an encoding that is not taken, or encoding, size and data do not fit; the text says how',
    ),
    Remedy(
        '`stamp_…`, `stamps_anew`, `no_clock`',
        ('stamp_*', 'stamps_anew', 'no_clock'),
        'camera, actuator, gazebo_io',
        'a message from outside with a stamp that cannot be right: [above](#stamps-from-outside)',
    ),
    Remedy(
        '`clock_jumped`',
        ('clock_jumped',),
        'camera',
        'ROS time was set; items between light barrier and camera are lost (ERROR) or there'
        ' were none (WARN)',
    ),
    Remedy(
        '`…: nobody publishes it`, `… is expected`',
        ('input.*', 'wait_for'),
        'camera, actuator, gazebo_io',
        'an input is not there, or another thing: [above](#inputs-that-are-silent-or-'
        'another-thing)',
    ),
    Remedy(
        '`…: … and … publish it`',
        ('publishers.*',),
        'camera, actuator, gazebo_io',
        'several publish what one alone can know (`belt_state`, `break_beam`, frames): stop'
        ' all but one, or remap it',
    ),
    Remedy(
        '`messages_lost`',
        ('messages_lost',),
        'camera',
        'frames were lost in a queue: free the machine, raise `depth` in `qos_overrides`, '
        'or set the driver to reliable',
    ),
    Remedy(
        '`missed_while_gone`',
        ('missed_while_gone',),
        'camera',
        'it was killed, and pictures were sent before it was back, or items came before all '
        'were connected again: [above](#what-survives-a-crash). See that what was on the belt '
        'then is sorted by hand',
    ),
    Remedy(
        '`driver_not_heard`',
        ('driver_not_heard',),
        'camera',
        'it was killed, is back, and nothing has come from its driver since. If items pass, they '
        'are lost: wait some seconds, then start driver and camera anew',
    ),
    Remedy(
        '`a picture is …`',
        ('picture_size',),
        'camera',
        'its size is not that of the cell description: scaled',
    ),
    Remedy(
        '`… items in 2 s are more than the belt can bring`',
        ('items',),
        'camera',
        'a free-running camera with `trigger: frame`',
    ),
    Remedy(
        '`item_not_seen`',
        ('item_not_seen',),
        'camera',
        'the beam was broken and no frame shows the item: raise the frame rate',
    ),
    Remedy(
        '`no frame for more than …`',
        ('frames',),
        'camera',
        'driver or camera is silent for `frame_timeout`',
    ),
    Remedy(
        '`device`',
        ('device',),
        'camera',
        'the device delivers no frame, is not there, or may not be used; the text says '
        'which; it is opened again every second',
    ),
    Remedy(
        '`device_format`',
        ('device_format',),
        'camera',
        'the device gives another size, format or rate than it was asked for: `v4l2-ctl '
        '--list-formats-ext` says what it can',
    ),
    Remedy(
        '`belt`',
        ('belt',),
        'camera',
        'the belt encoder (or `belt_state`) says that the belt stands (WARN), runs '
        'backwards, or is off the described speed by more than `belt.speed_tolerance` '
        '(ERROR): slip, drive or scale',
    ),
    Remedy(
        '`beam`', ('beam',), 'camera', 'the light barrier is blocked for 3 s: clear it, align it'
    ),
    Remedy(
        '`item_in_beam`',
        ('item_in_beam',),
        'camera',
        'something was in the light barrier when the node started; where it begins is not '
        'known, so it is not captured',
    ),
    Remedy(
        '`items_lost`',
        ('items_lost',),
        'camera',
        'the position of the belt was lost with items between light barrier and camera: see'
        ' `belt_lost`',
    ),
    Remedy(
        '`belt_unknown`',
        ('belt_unknown',),
        'actuator, camera',
        'nothing (new) comes on `belt_state`: no diverter moves, no item is placed. Check '
        'the camera node with the belt encoder, or what reads the PLC, and its clock',
    ),
    Remedy(
        '`belt_lost`',
        ('belt_lost',),
        'actuator',
        'the belt moved while nothing came on `belt_state`, and its counter started again: '
        'the items on it are not acted on, each with an Actuation FAILED. Let the reporter '
        'tell its `origin`, and keep it running',
    ),
    Remedy(
        '`diverter_silent`',
        ('diverter_silent',),
        'actuator',
        'commanded, not confirmed within `confirm_timeout`: the text says what to check; '
        'ends with the next confirmation of that lane',
    ),
    Remedy(
        '`diverter_failed`',
        ('diverter_failed',),
        'actuator',
        'could not be commanded, is stuck out, or came too late: the text says why',
    ),
    Remedy(
        '`PLC … does not answer`, `… is unreachable`, `… refuses …`',
        ('diverters',),
        'actuator',
        'Modbus: the network, the PLC, a gateway, or a refused address; the text names the '
        'exception and the remedy: [modbus.md](modbus.md)',
    ),
    Remedy(
        '`no_stroke`',
        ('no_stroke',),
        'actuator',
        "a deadline from which the item's place cannot be told",
    ),
    Remedy(
        '`strokes_dropped`',
        ('strokes_dropped',),
        'actuator',
        'the node was stopped while items were on their way, and their strokes could not be'
        ' made within 3 s; each has an Actuation FAILED. In simulated time it is no error',
    ),
    Remedy(
        '`taken_up`, `unacted_while_gone`, `captures_missed`',
        ('taken_up', 'unacted_while_gone', 'captures_missed'),
        'actuator',
        'it was killed with items on the belt: [above](#what-survives-a-crash)',
    ),
    Remedy(
        '`journal: …`',
        ('journal',),
        'camera, actuator',
        'open items will not survive a crash, or what a camera misses then will not be counted: '
        'the file belongs to another node or user, or there is no room; the text says which',
    ),
    Remedy(
        '`missed_deadline`',
        ('missed_deadline',),
        'actuator',
        'the command came after the deadline: raise `guard` of the cell description, or '
        'free the machine',
    ),
    Remedy(
        '`late_capture`, `absurd_deadline`',
        ('late_capture', 'absurd_deadline'),
        'actuator',
        'acted on at once; compare the clocks of camera and actuator',
    ),
    Remedy(
        '`duplicate_capture`, `item_id_conflict`',
        ('duplicate_capture', 'item_id_conflict'),
        'actuator',
        'two cameras publish `capture`, or messages come twice; refused, the item has its '
        'outcome once',
    ),
    Remedy(
        '`item_id_again`',
        ('item_id_again',),
        'actuator',
        'the number of an item that is still on its way came again, for an item that lies '
        "at least a paddle's width behind it: the camera was started again. Both are sorted",
    ),
    Remedy(
        '`unasked_answer`, `impossible_answer`, `wrong_model_answer`',
        ('unasked_answer', 'impossible_answer', 'wrong_model_answer'),
        'actuator',
        'an edge answer for an item that was not sent, by more bytes than were promised, or'
        ' of another model: it moves nothing; find who else publishes on '
        '`edge_classification`',
    ),
    Remedy(
        '`bad_answer`, `stale_answer`, `unknown_class`',
        ('bad_answer', 'stale_answer', 'unknown_class'),
        'actuator',
        'an answer that cannot be used; `unknown_class`: `cell_file` and `models_dir` do '
        'not belong together',
    ),
    Remedy('`clock_set_back`', ('clock_set_back',), 'actuator', 'ROS time jumped back'),
    Remedy(
        '`purity_missed.LANE`',
        ('purity_missed.*',),
        'actuator',
        'verified items of a lane are wrong more often than its purity target allows, and its '
        'threshold is as high as it goes: look at the camera, and make the calibration again',
    ),
    Remedy(
        '`light_changed`',
        ('light_changed',),
        'local_classifier',
        'the pictures are darker or brighter than those before: look at the lamps and at the '
        'exposure, or make the calibration again for the new light',
    ),
    Remedy(
        '`sharpness_changed`',
        ('sharpness_changed',),
        'local_classifier',
        'the pictures are less sharp than those before, or noisier: clean and focus the lens, '
        'and look at the gain',
    ),
    Remedy(
        '`ground_changed`',
        ('ground_changed',),
        'local_classifier',
        'the belt has another colour: clean it; if it was replaced, make the calibration again '
        'with pictures of it; else look at lamps and white balance',
    ),
    Remedy(
        '`class_missing`',
        ('class_missing',),
        'local_classifier',
        'a class that came before has stopped coming; the text names it: look at the feeder, or '
        'whether it is taken for another class',
    ),
    Remedy(
        '`new_kind`',
        ('new_kind',),
        'local_classifier',
        'many more strangers come than the cell description allows: look into the reject lane; '
        'what belongs to the cell is to be collected and trained ([own_items.md](own_items.md))',
    ),
    Remedy(
        '`no_way_to_peer`',
        ('no_way_to_peer',),
        'device_gateway, edge_gateway',
        'no interface that runs leads to the other side: plug the cable in, connect the radio, or '
        'correct `gateway_peer`',
    ),
    Remedy(
        '`address_changed`',
        ('address_changed',),
        'device_gateway, edge_gateway',
        'the network came, or has another address, since the node started: the other side cannot '
        'answer. The node ends with 75, and whoever keeps it starts it again: [network.md]('
        'network.md#a-network-that-comes-later)',
    ),
    Remedy(
        '`edge_silent`',
        ('edge_silent',),
        'offload_policy',
        'no sign of life for 0.85 s, behind a gateway for 0.75 s; ends with the next one, or with '
        '`edge_gone`: look at the network, at the gateways and at the machine of the edge',
    ),
    Remedy(
        '`edge_gone`',
        ('edge_gone',),
        'offload_policy',
        'no heartbeat for `edge.timeout` seconds; no tokens are spent. If the network came, or '
        'has another address, since the nodes started: start them again',
    ),
    Remedy(
        '`codec_mismatch`',
        ('codec_mismatch',),
        'offload_policy, encoder, edge_classifier',
        'give device and edge the same model folder; no tokens are spent',
    ),
    Remedy(
        '`no_account`',
        ('no_account',),
        'offload_policy',
        'the encoder did not report in time; the whole budget counts as spent',
    ),
    Remedy(
        '`unexpected_transfer`, `budget_exceeded`',
        ('unexpected_transfer', 'budget_exceeded'),
        'offload_policy',
        'an account for which no tokens were promised, or above the promise',
    ),
    Remedy(
        '`implausible_account`, `account_contradicted`',
        ('implausible_account', 'account_contradicted'),
        'offload_policy',
        'an account of a stream cannot be, or the edge or another account names more bytes:'
        ' the highest one is charged. Somebody else publishes on `transfer`',
    ),
    Remedy(
        '`second_edge`',
        ('second_edge',),
        'offload_policy',
        'an edge with another codec speaks beside the known one, which goes on to be used; '
        'find who else publishes on `feedback_rx`',
    ),
    Remedy(
        '`inference_server`',
        ('inference_server.*',),
        'edge_classifier',
        'a server of `inference_urls` does not answer: the others do, or onnxruntime here. It is '
        'looked at every second; is it running, with what `stl-conveyor export --for …` wrote?',
    ),
    Remedy(
        '`edges_differ`',
        ('edges_differ',),
        'edge_classifier',
        'another edge serves the same cells with other models: both answer, and one is not '
        'believed. Give all edges of a cell one model folder',
    ),
    Remedy(
        '`mute_edge`',
        ('mute_edge',),
        'edge_classifier',
        'an edge says that it is there and nobody acknowledges anything of a cell that is its '
        'own: the next one answers for 30 s, or until it does acknowledge. End it if it hangs; '
        'find who else publishes on `/edges`',
    ),
    Remedy(
        '`edge_full`',
        ('edge_full',),
        'edge_classifier',
        'the cells ask for more answers than the edge can give: devices hear its price, and send '
        'what gains most. Add an edge, or take cells away',
    ),
    Remedy(
        '`the clock of the edge is …`',
        ('edge_clock',),
        'encoder',
        'beyond `clock_tolerance`; deadlines are translated: [two_machines.md](two_machines.md)',
    ),
    Remedy('`packet_refused`', ('packet_refused',), 'encoder', 'the edge got a damaged packet'),
    Remedy(
        '`bad_packet`, `too_late`',
        ('bad_packet', 'too_late'),
        'edge_classifier',
        'refused; the encoder is told',
    ),
    Remedy(
        '`clock`',
        ('clock',),
        'any',
        '`use_sim_time` is set, and nobody publishes /clock: start the simulation, or set '
        '`use_sim_time: false`',
    ),
    Remedy(
        '`log`',
        ('log',),
        'any',
        'a log file of the node cannot be written; the text names it: free the disk, or '
        'correct the path',
    ),
    Remedy('`physics`', ('physics',), 'cell_simulator', 'the simulation ended; the text says why'),
    Remedy(
        '`too_slow`',
        ('too_slow',),
        'cell_simulator',
        'the machine is too slow or too busy to simulate the cell: end other programs',
    ),
    Remedy(
        '`results`',
        ('results',),
        'cell_monitor',
        'summary or report cannot be written; the text names the file: free the disk, or '
        'name another folder',
    ),
    Remedy(
        '`duplicate_classification`, `duplicate_decision`',
        ('duplicate_classification', 'duplicate_decision'),
        'offload_policy, encoder',
        'messages come twice: find who else publishes on `classification` or '
        '`offload_decision`; the first one counts',
    ),
    Remedy(
        '`unknown_lane`',
        ('unknown_lane',),
        'cell_simulator, gazebo_io',
        'an outcome names a lane that the cell does not have: give actuator and simulation '
        'the same `cell_file`',
    ),
    Remedy(
        '`gazebo`',
        ('gazebo',),
        'feeder',
        'nobody offers `spawn_entity` and `delete_entity`: start ros_gz_bridge',
    ),
    Remedy(
        '`spawn_refused`, `spawn_unanswered`, `cell_full`',
        ('spawn_refused', 'spawn_unanswered', 'cell_full'),
        'feeder',
        'Gazebo does not bring in an item; it is asked again. Look at its log if that goes on',
    ),
    Remedy(
        '`item_not_captured`, `capture_of_nothing`',
        ('item_not_captured', 'capture_of_nothing'),
        'feeder',
        'an item passed the camera unseen, or one was captured where none is: compare the '
        'cameras of `cell_file` and of the world',
    ),
    Remedy(
        '`models`',
        ('models',),
        'operator_panel',
        'the model folder cannot be used; the page shows classes without probabilities: set'
        ' `models_dir`',
    ),
    Remedy(
        '`recipe`',
        ('recipe',),
        'operator_panel, plant_gateway, cell_view',
        'cell description or models with which a cell works cannot be read on this machine: what '
        'was known before is shown. Lay the same files at the same place there',
    ),
    Remedy(
        '`alarm_log`, `change_log`, `counts_file`',
        ('alarm_log', 'change_log', 'counts_file'),
        'operator_panel',
        'a file of the page cannot be written, or what cannot be read of it is left out; the text '
        'names it: free the disk, or correct the parameter',
    ),
    Remedy(
        '`recording`, `recording_full`, `recording_gaps`',
        ('recording', 'recording_full', 'recording_gaps'),
        'recorder',
        'the recording ended, its size is used up, or the disk is too slow for it; the cell goes '
        'on. Free the disk, raise `limit_mb`, or set `frames: false`',
    ),
    Remedy(
        '`plant.…`',
        ('plant.*',),
        'plant_gateway',
        'broker or server of the plant is not there, or refuses, or a port of this machine is '
        'taken; the text says which and why. The cell and the other outputs go on, and the values '
        'are right as soon as it is back',
    ),
    Remedy(
        '`language`',
        ('language',),
        'operator_panel',
        'a file of texts cannot be used, or lacks some, which are shown in English: the '
        'text names both',
    ),
    Remedy(
        '`node_gone`',
        ('node_gone',),
        GUARD,
        'a node that was active is silent: dead, frozen (SIGSTOP) or cut off. Its log says '
        'why; launch starts it again',
    ),
    Remedy(
        '`node_stuck`',
        ('node_stuck',),
        GUARD,
        'it lives, and its executor does not come back from a callback. End it if this lasts',
    ),
    Remedy(
        '`node_not_active`',
        ('node_not_active',),
        GUARD,
        'it lives and is not active: see its own report',
    ),
    Remedy(
        '`node_unable`',
        ('node_unable',),
        GUARD,
        'it lives and is active, and says that it cannot do its work: a PLC that does not '
        'answer, a diverter that did not move (for 5 s), a camera that was killed and does not '
        'hear its driver yet (for 5 s at most). See its own report',
    ),
    Remedy(
        '`node_missing`',
        ('node_missing',),
        GUARD,
        'nothing was heard of it within `patience` since the guard started',
    ),
    Remedy(
        '`node_twice`',
        ('node_twice',),
        GUARD,
        'two of one name: the text says whether one of them stands by, or both handle every '
        'item. End one',
    ),
    Remedy(
        '`surplus_publisher`',
        ('surplus_publisher',),
        GUARD,
        'a second publisher of a topic that has one: of the frames, the light barrier, the '
        'belt, and of whatever is published about an item; two cameras or actuators show as this, '
        'and an edge beside something that is none. The text names both',
    ),
    Remedy(
        '`missing_publisher`, `missing_subscriber`',
        ('missing_publisher', 'missing_subscriber'),
        GUARD,
        "an active node lacks an end of the item's way: compare the remappings and the ROS "
        'domains. Said about 2 s after the graph has changed, since an end takes a while to'
        ' become known',
    ),
    Remedy(
        '`captures_lost`',
        ('captures_lost',),
        GUARD,
        'numbers of the camera that the guard has not heard of, and that no later message '
        'explains',
    ),
    Remedy(
        '`unacted`',
        ('unacted',),
        GUARD,
        'captured, and no outcome `grace` after the deadline: these items passed unsorted',
    ),
    Remedy(
        '`unclassified`', ('unclassified',), GUARD, 'captured, and no local answer by the deadline'
    ),
    Remedy(
        '`unconfirmed`',
        ('unconfirmed',),
        GUARD,
        'sent to a lane, and of the stroke nothing was heard on `actuation` 2 s after a '
        'later one of that lane was reported: it may have passed',
    ),
    Remedy(
        '`acted_twice`, `never_captured`',
        ('acted_twice', 'never_captured'),
        GUARD,
        'two outcomes of an item, or one of an item that no capture announced: who '
        'publishes on `sort_outcome`?',
    ),
    Remedy(
        '`safe_output`',
        ('safe_output',),
        GUARD,
        'the pin or the register that tells whether the line may run cannot be written; the'
        ' text says why',
    ),
    Remedy(
        '`not_safe_to_run`', ('not_safe_to_run',), GUARD, 'items could pass unsorted; see below'
    ),
)


def remedy_for(fault: str, message: str = '') -> Remedy | None:
    """Return what to do about a fault; None where the table has no row for it.

    Args:
        fault: Its name on /diagnostics.
        message: What the node said; it may open with the name of a narrower fault.

    Examples:
        >>> remedy_for('diverter.A', 'diverter_silent: lane A did not confirm').key
        'diverter_silent'
        >>> remedy_for('stamp_ahead').key
        'stamp_*'
    """
    narrower = message.partition(':')[0]
    for name in (narrower, fault):
        for remedy in REMEDIES:
            if any(fnmatchcase(name, pattern) for pattern in remedy.names):
                return remedy
    return None
