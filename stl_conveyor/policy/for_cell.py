# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make a policy from a model folder: what the node runs and what the benchmarks measure."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Protocol

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.calibration_record import CellDecider
from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy import (
    BUDGET_POLICIES,
    LEARNED_POLICIES,
    BudgetTable,
    Distribution,
    Policy,
    PolicySettings,
    RewardEstimator,
    make_policy,
)
from stl_conveyor.policy.learned import AdaptivePolicy
from stl_conveyor.policy.worth import AccuracyWorth, CostWorth, ItemWorth
from stl_conveyor.resources import share_path

NETWORKS = 'models/policy'
ADAPTIVE_NETWORK = f'{NETWORKS}/adaptive.onnx'


def load_rewards(folder: ModelFolder) -> RewardEstimator:
    """Load the reward estimate; raises ModelFileError when it is not for the folder's classes."""
    rewards = RewardEstimator.load(folder.path('reward'))
    if rewards.classes != len(folder.labels):
        raise ModelFileError(
            f'{folder.path("reward")}: knows {rewards.classes} classes, the manifest '
            f'{len(folder.labels)}; fit it again'
        )
    return rewards


def load_budgets(
    folder: ModelFolder, policy: str, nominal_bytes: int | None = None
) -> BudgetTable | None:
    """Load what byte budgets bring; None for a policy or a folder without them.

    Args:
        nominal_bytes: What a token buys; None leaves it as it was fitted.
    """
    if policy not in BUDGET_POLICIES or 'budget' not in folder.roles:
        return None
    table = BudgetTable.load(folder.path('budget'))
    return table if nominal_bytes is None else table.for_token(nominal_bytes)


def load_worth(
    folder: ModelFolder,
    cell: CellDescription,
    decider: CellDecider | None,
    policy: str = AdaptivePolicy.name,
    nominal_bytes: int | None = None,
) -> ItemWorth:
    """Load what it is worth to offload items of a folder in a cell.

    Args:
        decider: What decides by cost; None for a cell that does not. Where it has no calibration
            items to learn the fall in cost from, the gain in accuracy stands in for it.
        policy: Which is to decide; budgets are loaded for one that knows them.
        nominal_bytes: What a token buys; None leaves it as it was fitted.

    Raises:
        ModelFileError: For files that cannot be used.
    """
    if decider is None or decider.record is None:
        return AccuracyWorth(
            load_rewards(folder), cell.strangers, load_budgets(folder, policy, nominal_bytes)
        )
    return CostWorth(decider) if nominal_bytes is None else CostWorth(decider, nominal_bytes)


class Rewarding(Protocol):
    """What knows how expected rewards are distributed."""

    @property
    def distribution(self) -> Distribution:
        """Return the distribution."""


def make_cell_policy(
    name: str,
    settings: PolicySettings,
    rewards: Rewarding,
    budgets: BudgetTable | None = None,
    network: str | Path = '',
) -> Policy:
    """Make a policy for the items of a model folder.

    Args:
        rewards: What items are worth.
        network: Of a learned policy; empty takes the one that the package ships.

    Raises:
        ConfigError: Where the package ships none for the bucket, or the network is for another.
    """
    planning = replace(settings, rewards=rewards.distribution, budgets=budgets)
    if name in LEARNED_POLICIES:
        file = Path(network).expanduser() if network else shipped_network(name, settings)
        planning = replace(planning, model=str(file))
    return make_policy(
        name, **{item.name: getattr(planning, item.name) for item in fields(planning)}
    )


def shipped_network(name: str, settings: PolicySettings) -> Path:
    """Return the network that the package ships for a learned policy.

    Args:
        name: One of LEARNED_POLICIES.
        settings: Of the bucket, for which ``dqn`` has networks of its own. Of several, trained in
            different scenarios, the first by name counts.

    Returns:
        The ONNX file.

    Raises:
        ConfigError: Where there is none for the bucket, naming those that there are.
    """
    if name == AdaptivePolicy.name:
        return Path(share_path(ADAPTIVE_NETWORK))
    files = sorted(Path(share_path(NETWORKS)).glob(f'{name}_*_r*_b*.onnx'))
    bucket = f'r{float(settings.rate):g}_b{float(settings.depth):g}'
    for file in files:
        if file.stem.endswith(f'_{bucket}'):
            return file
    known = sorted({'_'.join(file.stem.rsplit('_', 2)[1:]) for file in files})
    raise ConfigError(
        f'no network for policy {name} and the bucket {bucket} is shipped, only for '
        f'{", ".join(known)}; set rate and depth to one of them, name a network by policy_model, '
        'or use policy adaptive'
    )
