# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fit the constants of a codec to images: transform, quantiser, order of importance, tables.

NumPy alone; the neural half is in codec.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stl_conveyor.codec.contexts import (
    ACTIVITY_CLASSES,
    ALPHABET,
    COARSE_LIMIT,
    CONTEXTS,
    PARENT_STATES,
    activity_class,
)
from stl_conveyor.codec.entropy import join_planes, split_planes
from stl_conveyor.codec.group_order import MAX_PLANES
from stl_conveyor.codec.range_coder import TABLE_TOTAL
from stl_conveyor.codec.spec import FORMAT_VERSION, SIDE_LEVELS, CodecSpec
from stl_conveyor.codec.wire import side_levels
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance

#: Bin width of the coarsest plane in deviations of the channel, at least.
COARSE_STEP = 1.8
#: Share of the coefficients of each channel that the coarsest plane must reach.
REACH = 0.9998
#: Where the second and later bands of a spatial transform begin, as a share of its length.
BAND_EDGES = (0.08, 0.24, 0.5)
#: Largest matrix whose eigenvectors are all computed; beyond it, how many more than are wanted are
#: iterated, and how often.
DIRECTLY, EXTRA, ROUNDS = 1024, 64, 6
#: Items whose symbols are counted between two looks at the clock.
COUNTED_AT_ONCE = 200
#: How much finer than the mean a band may be quantised.
FINEST_BAND = 8.0


def image_patches(images: np.ndarray, patch: int) -> np.ndarray:
    """Return u8[N, positions, patch*patch*3] from images u8[N, S, S, 3]."""
    count, size = images.shape[:2]
    grid = size // patch
    cut = images.reshape(count, grid, patch, grid, patch * 3).swapaxes(2, 3)
    return cut.reshape(count, grid * grid, patch * patch * 3)


def _moments(patches: np.ndarray, allowance: Allowance = UNLIMITED) -> tuple:
    """Return mean and covariance of rows u8[..., D], of as many as the time allows."""
    dimension = patches.shape[-1]
    rows = patches.reshape(-1, dimension)
    total, count = np.zeros(dimension), 0
    square = np.zeros((dimension, dimension), np.float32)
    for part in allowance.blocks(len(rows), 4096, least=2 * dimension):
        block = rows[part].astype(np.float32) / 255
        total += block.sum(0)
        square += block.T @ block
        count = part.stop
    mean = (total / count).astype(np.float32)
    return mean, square / count - np.outer(mean, mean)


def _iterated_subspace(covariance: np.ndarray, count: int) -> np.ndarray:
    """Return an orthonormal basis f32[D, K] that holds the `count` leading eigenvectors.

    By subspace iteration (Golub and Van Loan, Matrix Computations, 8.2.4), which is products of
    matrices alone; all eigenvectors of a matrix this large would take a minute.
    """
    dimension = len(covariance)
    start = np.random.default_rng(0).normal(size=(dimension, min(dimension, count + EXTRA)))
    found = start.astype(np.float32)
    matrix = covariance.astype(np.float32)
    for _ in range(ROUNDS):
        # Of few pictures the matrix has fewer eigenvectors than that; this fills them up.
        found = np.linalg.qr(matrix @ found)[0]
    return found


def _leading(covariance: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` leading eigenvectors as rows, signs fixed."""
    within = None
    if len(covariance) > DIRECTLY and count + EXTRA < len(covariance):
        within = _iterated_subspace(covariance, count)
        covariance = within.T @ covariance @ within
    _, vectors = np.linalg.eigh(covariance.astype(np.float64))
    basis = vectors[:, ::-1][:, :count].T
    if within is not None:
        basis = basis @ within.T
    peak = np.abs(basis).argmax(1)
    return (basis * np.sign(basis[np.arange(len(basis)), peak])[:, None]).astype(np.float32)


def pca_transform(
    images: np.ndarray,
    patch: int,
    coarse: int,
    fine: int,
    fine_patch: int,
    allowance: Allowance = UNLIMITED,
) -> tuple:
    """Return (mean f32[D], analysis f32[K, D]) from images u8[N, S, S, 3]; D = patch*patch*3.

    The first `coarse` rows are the principal components of whole patches; then come `fine`
    components of what these leave over in sub-patches of side `fine_patch`, once for each
    sub-patch, so that K = coarse + fine * (patch / fine_patch)**2. All rows are orthonormal.
    Where time is limited the images are taken in their order, as far as it reaches.
    """
    patches = image_patches(images, patch)
    mean, covariance = _moments(patches, allowance)
    basis = _leading(covariance, coarse)
    if not fine:
        return mean, basis
    cut = patch // fine_patch
    residual = covariance - (covariance @ basis.T) @ basis
    residual -= basis.T @ (basis @ residual)
    index = np.arange(patch * patch * 3).reshape(cut, fine_patch, cut, fine_patch * 3)
    places = index.swapaxes(1, 2).reshape(cut * cut, -1)
    small = sum(residual[np.ix_(place, place)] for place in places)
    local = _leading(small, fine)
    rows = np.zeros((fine, len(places), patch * patch * 3), np.float32)
    for number, place in enumerate(places):
        rows[:, number, place] = local
    flat = rows.reshape(fine * len(places), -1)
    flat -= (flat @ basis.T) @ basis
    orthogonal, triangle = np.linalg.qr(flat.T.astype(np.float64))
    rows = (orthogonal * np.sign(np.diag(triangle))).T.astype(np.float32)
    return mean, np.concatenate([basis, rows])


def project(patches: np.ndarray, analysis: np.ndarray) -> np.ndarray:
    """Return f32[N, K, positions]: what patches f32[N, positions, D] have of analysis f32[K, D].

    As one product of two matrices: NumPy takes fifteen times as long for a stack of them.
    """
    count, positions, dimension = patches.shape
    product = patches.reshape(-1, dimension) @ analysis.T
    return product.reshape(count, positions, -1).swapaxes(1, 2)


def transform(
    images: np.ndarray, mean: np.ndarray, analysis: np.ndarray, patch: int
) -> np.ndarray:
    """Return the coefficients f32[N, K, positions] of images u8[N, S, S, 3]."""
    result = []
    for start in range(0, len(images), 64):
        patches = image_patches(images[start : start + 64], patch)
        result.append(project(patches.astype(np.float32) / 255 - mean, analysis))
    return np.concatenate(result)


def spatial_transform(values: np.ndarray, channels: int) -> tuple:
    """Return (offset f32[K, positions], spatial f32[channels, positions, positions]).

    The offset is the mean of coefficients f32[N, K, positions]; row i of a channel's matrix is
    the i-th principal component of its map, scaled so that all bands have the same deviation.
    Both are rounded as the codec file keeps them.
    """
    offset = values.mean(0).astype(np.float16).astype(np.float32)
    positions = values.shape[2]
    bands = band_regions(positions, 0)
    spatial = np.zeros((channels, positions, positions), np.float32)
    for channel in range(channels):
        maps = (values[:, channel] - offset[channel]).astype(np.float64)
        rows = _leading(maps.T @ maps / len(maps), positions)
        power = np.square(maps @ rows.T).mean(0)
        for band in range(int(bands.max()) + 1):
            here = bands == band
            ratio = power.mean() / np.maximum(power[here].mean(), 1e-12)
            rows[here] *= np.sqrt(np.minimum(ratio, FINEST_BAND**2))
        spatial[channel] = rows
    return offset, spatial.astype(np.float16).astype(np.float32)


def apply_spatial(values: np.ndarray, offset: np.ndarray, spatial: np.ndarray) -> np.ndarray:
    """Return what is quantised, f32[N, K, positions], of coefficients of the same shape."""
    result = values - offset
    if len(spatial):
        result[:, : len(spatial)] = np.einsum(
            'cij,ncj->nci', spatial, result[:, : len(spatial)], optimize=True
        )
    return result


def spec_values(spec: CodecSpec, images: np.ndarray) -> np.ndarray:
    """Return what is quantised, f32[N, K, positions], of images u8[N, S, S, 3]."""
    return apply_spatial(
        transform(images, spec.mean, spec.analysis, spec.patch), spec.offset, spec.spatial
    )


def quantise(values: np.ndarray, finest_step: np.ndarray) -> np.ndarray:
    """Return the finest integers i8[N, K, positions] of coefficients."""
    limit = (2 * COARSE_LIMIT + 1) * 3 ** (MAX_PLANES - 1) // 2
    scaled = values / finest_step[None, :, None]
    return np.clip(np.rint(scaled), -limit, limit).astype(np.int8)


def ring_regions(grid: int, rings: int) -> np.ndarray:
    """Return u8[grid*grid]: distance (Chebyshev) from the centre, cut into <= `rings` regions."""
    axis = np.abs(np.arange(grid) - (grid - 1) / 2)
    distance = np.maximum(axis[:, None], axis[None, :]).ravel()
    levels = np.unique(distance)
    index = np.searchsorted(levels, distance)
    found = np.minimum(index * rings // len(levels), rings - 1)
    return np.unique(found, return_inverse=True)[1].astype(np.uint8)


def band_regions(positions: int, first: int) -> np.ndarray:
    """Return u8[positions]: the index of a spatial transform cut into bands from `first` on."""
    edges = np.unique(np.ceil(positions * np.array(BAND_EDGES)))
    return (first + np.searchsorted(edges, np.arange(positions), side='right')).astype(np.uint8)


def _centroids(values: np.ndarray, planes: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the shrinkage f32[K, MAX_PLANES, 2] that puts bins at their centroids."""
    shrink = np.zeros((values.shape[1], MAX_PLANES, 2), np.float32)
    joined = planes[0].astype(np.int32)
    for plane in range(MAX_PLANES):
        if plane:
            joined = 3 * joined + planes[plane]
        offset = np.abs(joined) - np.sign(joined) * values / step[None, :, plane, None]
        for bin_index, mask in enumerate((np.abs(joined) == 1, np.abs(joined) > 1)):
            total = mask.sum((0, 2))
            mean = (offset * mask).sum((0, 2)) / (total + 8.0)
            shrink[:, plane, bin_index] = np.clip(mean, -0.25, 0.45)
    return shrink


def order_groups(
    values: np.ndarray,
    planes: np.ndarray,
    step: np.ndarray,
    shrink: np.ndarray,
    region_map: np.ndarray,
    importance: np.ndarray,
    limit: int,
    band_map: np.ndarray | None = None,
    banded: int = 0,
) -> tuple:
    """Return (channel, plane, region) of up to `limit` groups, most useful per bit first.

    The use of a group is the squared error that it removes times importance f32[K, regions].
    The first `banded` channels are cut by `band_map`, the others by `region_map`.
    """
    if band_map is None:  # then no channel is banded
        band_map = region_map
    regions = int((band_map if banded else region_map).max()) + 1
    channels = values.shape[1]
    score = np.zeros((MAX_PLANES, channels, regions))
    left = values.astype(np.float32) ** 2
    joined = np.zeros(values.shape, np.int32)
    for plane in range(MAX_PLANES):
        joined = 3 * joined + planes[plane]
        size = np.abs(joined)
        shift = np.where(size == 1, shrink[None, :, plane, :1], shrink[None, :, plane, 1:])
        now = (values - (joined - np.sign(joined) * shift) * step[None, :, plane, None]) ** 2
        gain = (left - now).mean(0)
        bits = np.zeros(gain.shape)
        for symbol in range(-COARSE_LIMIT, COARSE_LIMIT + 1):
            share = (planes[plane] == symbol).mean(0)
            bits -= share * np.log2(np.maximum(share, 1e-9))
        for region in range(regions):
            bands = region > region_map.max()
            here = np.equal(band_map if bands else region_map, region)
            which = slice(0, banded) if bands else slice(banded, None)
            score[plane, which, region] = (
                gain[which][:, here].sum(1)
                * importance[which, region]
                / (bits[which][:, here].sum(1) + 0.02 * here.sum())
            )
        if plane:
            score[plane] = np.minimum(score[plane], score[plane - 1] * 0.999)
        left = now
    ranked = np.argsort(-score, axis=None, kind='stable')
    best = ranked[:limit]
    of_plane, of_channel, of_region = np.unravel_index(best, score.shape)
    useful = score.ravel()[best] > 0
    return of_channel[useful], of_plane[useful], of_region[useful]


def _distribution(counts: np.ndarray, legal: int) -> np.ndarray:
    """Turn counts [..., ALPHABET] into u16 rows that sum to TABLE_TOTAL."""
    low = COARSE_LIMIT - legal
    weights = np.zeros(counts.shape)
    inner = counts[..., low : ALPHABET - low]
    floor = TABLE_TOTAL / 1024
    share = inner / inner.sum(-1, keepdims=True)
    weights[..., low : ALPHABET - low] = np.floor(
        floor + share * (TABLE_TOTAL - floor * inner.shape[-1])
    )
    lost = TABLE_TOTAL - weights.sum(-1)
    peak = weights.argmax(-1)
    np.put_along_axis(
        weights,
        peak[..., None],
        np.take_along_axis(weights, peak[..., None], -1) + lost[..., None],
        -1,
    )
    return weights.astype(np.uint16)


def _count(spec: CodecSpec, planes: np.ndarray, states: np.ndarray, starts: np.ndarray) -> tuple:
    """Count symbols per group and context; packets of item n start at groups `starts[n]` (sorted).

    Returns (counts f64[G, CONTEXTS, ALPHABET], bits f32[N, G] under the spec's tables).
    """
    items = planes.shape[1]
    positions = len(spec.region_map)
    seen = np.zeros((items, positions), np.float32)
    begin = np.zeros(items, np.int64)
    base = np.zeros((items, positions), np.float32)
    counts = np.zeros((spec.groups, CONTEXTS, ALPHABET))
    bits = np.zeros((items, spec.groups), np.float32)
    pointer = np.zeros(items, np.int64)
    costs = (
        np.log2(TABLE_TOTAL)
        - np.log2(np.maximum(spec.tables.reshape(spec.groups, -1), np.float32(2.0**-8)))
    ).astype(np.float32)
    for group in range(spec.groups):
        fresh = starts[np.arange(items), np.minimum(pointer, starts.shape[1] - 1)] == group
        seen[fresh] = 0
        begin[fresh] = group
        base[fresh] = spec.contexts.expected_before[group]
        pointer[fresh] += 1
        place = spec.order.positions[spec.group_region[group]]
        plane, channel = spec.group_plane[group], spec.group_channel[group]
        symbols = planes[plane, :, channel][:, place]
        fixed = spec.contexts.band_class[spec.group_region[group]]
        if fixed is None:
            expected = spec.contexts.expected_before[group][place] - base[:, place]
            classes = activity_class(seen[:, place], expected)
            seen += (symbols != 0).astype(np.float32) @ spec.contexts.neighbours[place]
        else:
            classes = np.broadcast_to(fixed, symbols.shape)
        state = np.zeros(symbols.shape, np.int64)
        if plane:
            known = (spec.order.chain_start[group] >= begin)[:, None]
            state = np.where(known, 2 + states[plane - 1, :, channel][:, place], 0)
        index = (
            (state * ACTIVITY_CLASSES + classes) * ALPHABET
            + symbols.astype(np.int64)
            + COARSE_LIMIT
        )
        counts[group] = np.bincount(index.ravel(), minlength=CONTEXTS * ALPHABET).reshape(
            CONTEXTS, ALPHABET
        )
        bits[:, group] = costs[group][index].sum(1)
    return counts, bits


def _tables(spec: CodecSpec, counts: np.ndarray) -> np.ndarray:
    """Shrink context counts to what the same group says with less context."""
    smooth = counts + counts[..., ::-1] * 0.02
    whole = smooth.sum(1, keepdims=True) + 0.5
    by_state = smooth.reshape(spec.groups, PARENT_STATES, ACTIVITY_CLASSES, ALPHABET)
    state = by_state.sum(2, keepdims=True)
    state = state + 24 * (whole / whole.sum(-1, keepdims=True))[:, :, None]
    full = by_state + 24 * state / state.sum(-1, keepdims=True)
    tables = np.zeros(full.shape, np.uint16)
    coarse = spec.group_plane == 0
    tables[coarse] = _distribution(full[coarse], COARSE_LIMIT)
    tables[~coarse] = _distribution(full[~coarse], 1)
    return tables.reshape(spec.groups, CONTEXTS, ALPHABET)


def packet_starts(
    bits: np.ndarray, first_bytes: int, packet_bytes: int, rng: np.random.Generator
) -> np.ndarray:
    """Return i64[N, packets]: where packets begin if each item draws its own packet size."""
    total = np.cumsum(bits, 1) / 8
    count = 2 + int(total[:, -1].max() // (packet_bytes * 0.5))
    starts = np.zeros((len(bits), count + 1), np.int64)
    for n, row in enumerate(total):
        scale = rng.uniform(0.6, 2.4)
        edges = scale * (first_bytes + packet_bytes * np.arange(count))
        starts[n, 1:] = np.searchsorted(row, edges)
    return starts


def fit_side_table(probabilities: np.ndarray) -> np.ndarray:
    """Return the table u16[SIDE_LEVELS] for local probabilities f32[N, C]."""
    levels = np.stack([side_levels(p, SIDE_LEVELS) for p in probabilities])
    counts = np.bincount(levels.ravel(), minlength=SIDE_LEVELS) + 1.0
    weights = np.maximum(np.floor(counts / counts.sum() * (TABLE_TOTAL - 64 * SIDE_LEVELS)), 0)
    weights += 64
    weights[weights.argmax()] += TABLE_TOTAL - weights.sum()
    return weights.astype(np.uint16)


def fit_spec(
    images: np.ndarray,
    mean: np.ndarray,
    analysis: np.ndarray,
    *,
    labels: int,
    rings: int = 1,
    max_groups: int = 1600,
    importance: np.ndarray | None = None,
    side: np.ndarray | None = None,
    seed: int = 0,
    offset: np.ndarray | None = None,
    spatial: np.ndarray | None = None,
    allowance: Allowance = UNLIMITED,
) -> CodecSpec:
    """Fit quantiser, order, contexts and tables to images u8[N, S, S, 3].

    `importance` f32[K, regions and bands] weighs the squared error of each channel (default:
    all one); `side` f32[N, C] are local probabilities (default: a nearly certain classifier);
    `offset` and `spatial` come from spatial_transform (default: none). Where time is limited, the
    tables are fitted to as many of the images as it allows.
    """
    size = images.shape[1]
    patch = int(round((analysis.shape[1] / 3) ** 0.5))
    region_map = ring_regions(size // patch, rings)
    positions = len(region_map)
    rings = int(region_map.max()) + 1
    band_map = band_regions(positions, rings)
    analysis = analysis.astype(np.float16).astype(np.float32)
    offset = np.zeros((len(analysis), positions), np.float32) if offset is None else offset
    spatial = np.zeros((0, positions, positions), np.float32) if spatial is None else spatial
    banded = len(spatial)
    values = apply_spatial(transform(images, mean, analysis, patch), offset, spatial)
    deviation = np.maximum(values.std((0, 2)), 1e-4)
    # Where most of an image is background, what matters lies many deviations out.
    reach = np.quantile(np.abs(values).transpose(1, 0, 2).reshape(len(analysis), -1), REACH, 1)
    coarse = np.maximum(COARSE_STEP * deviation, reach / (COARSE_LIMIT + 0.5))
    finest = (coarse / 3 ** (MAX_PLANES - 1)).astype(np.float32)
    step = finest[:, None] * 3.0 ** np.arange(MAX_PLANES - 1, -1, -1)[None]
    quantised = quantise(values, finest)
    planes = split_planes(quantised)
    shrink = _centroids(values, planes, step)
    if importance is None:
        importance = np.ones((len(analysis), int(band_map.max()) + 1), np.float32)
        length = np.square(spatial).sum(2)
        for band in range(rings, importance.shape[1]):
            importance[:banded, band] = 1 / length[:, band_map == band].mean(1)
    channel, plane, region = order_groups(
        values, planes, step, shrink, region_map, importance, max_groups, band_map, banded
    )
    active = np.zeros(len(channel), np.uint16)
    for g, (c, p, r) in enumerate(zip(channel, plane, region)):
        if c >= banded:
            active[g] = np.clip(
                np.rint(256 * (planes[p, :, c][:, region_map == r] != 0).mean()), 1, 256
            )
    if side is None:
        certain = np.full((16, labels), 1e-4)
        certain[:, 0] = 1
        side = certain
    flat = np.zeros((len(channel), CONTEXTS, ALPHABET), np.uint16)
    flat[:] = _distribution(np.ones(ALPHABET), COARSE_LIMIT)
    spec = CodecSpec(
        mean=mean.astype(np.float32),
        analysis=analysis,
        finest_step=finest,
        group_channel=channel.astype(np.int16),
        group_plane=plane.astype(np.uint8),
        group_region=region.astype(np.uint8),
        region_map=region_map,
        tables=flat,
        expected_activity=active,
        shrink=shrink,
        side_table=fit_side_table(side),
        header=np.array([FORMAT_VERSION, size, labels], np.int32),
        offset=offset,
        spatial=spatial,
        band_map=band_map,
    )
    return fit_tables(spec, quantised, seed, allowance=allowance)


def fit_tables(
    spec: CodecSpec,
    quantised: np.ndarray,
    seed: int = 0,
    first_bytes: int = 256,
    packet_bytes: int = 512,
    allowance: Allowance = UNLIMITED,
) -> CodecSpec:
    """Return the spec with tables fitted to i8[N, K, positions]: without packets, then with.

    Where time is limited, the last fit counts as many of the items as it allows.
    """
    planes = split_planes(quantised)
    states = np.sign(join_planes(planes))
    rng = np.random.default_rng(seed)
    few = slice(0, max(32, len(quantised) // 4))
    begin = np.zeros((len(quantised), 1), np.int64)
    counts, _ = _count(spec, planes[:, few], states[:, few], begin[few])
    spec = replace(spec, tables=_tables(spec, counts))
    _, bits = _count(spec, planes[:, few], states[:, few], begin[few])
    starts = packet_starts(
        np.resize(bits, (len(quantised), spec.groups)), first_bytes, packet_bytes, rng
    )
    counts = np.zeros((spec.groups, CONTEXTS, ALPHABET))
    for part in allowance.blocks(len(quantised), COUNTED_AT_ONCE):
        counts += _count(spec, planes[:, part], states[:, part], starts[part])[0]
    return replace(spec, tables=_tables(spec, counts))


def group_bits(spec: CodecSpec, quantised: np.ndarray) -> np.ndarray:
    """Return the length f32[N, G] in bits of each group of each item, in one long packet."""
    planes = split_planes(quantised)
    states = np.sign(join_planes(planes))
    return _count(spec, planes, states, np.zeros((planes.shape[1], 1), np.int64))[1]


def symbol_bits(spec: CodecSpec, quantised: np.ndarray) -> np.ndarray:
    """Return f32[G, ALPHABET]: bits of each symbol without regard to contexts.

    Scaled so that each group's mean is that of the context coder on i8[N, K, positions].
    """
    planes = split_planes(quantised)
    real = group_bits(spec, quantised).mean(0)
    result = np.zeros((spec.groups, ALPHABET), np.float32)
    for g in range(spec.groups):
        symbols = planes[spec.group_plane[g], :, spec.group_channel[g]]
        symbols = symbols[:, spec.order.positions[spec.group_region[g]]]
        count = np.bincount(symbols.ravel().astype(np.int64) + COARSE_LIMIT, minlength=ALPHABET)
        bits = -np.log2((count + 0.1) / (count + 0.1).sum())
        plain = (count * bits).sum() / len(symbols)
        result[g] = bits * (real[g] / max(plain, 1e-3))
    return result
