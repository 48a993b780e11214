# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Train the recurrent codec to compare with.

    python -m stl_conveyor_lab.train.references.recurrent --data FOLDER --models FOLDER \\
        --work FOLDER --references FOLDER

After Toderici et al., "Full Resolution Image Compression with Recurrent Neural Networks" (CVPR
2017): their convolutional GRU with additive reconstruction, the binary code of each iteration
rounded at random in training, absolute error of every iteration. It is small: about a tenth of
the published widths and 8 instead of 32 bits for each position, so that an image of 224 pixels
takes 196 bytes an iteration. Trained on blocks of 32 x 32 pixels; resumes from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import load_pictures
from stl_conveyor_lab.references.recurrent import BLOCK, RecurrentCode
from stl_conveyor_lab.train.manifest import write_card
from stl_conveyor_lab.train.onnx_export import count_macs
from stl_conveyor_lab.train.processor import set_up_processor
from stl_conveyor_lab.train.recipe_options import recipe_of
from stl_conveyor_lab.train.references.files import write_reference
from stl_conveyor_lab.train.references.options import reference_parser
from stl_conveyor_lab.train.timed_run import TimedRun

#: Channels of the encoder's first convolution and its cells, and of the decoder's cells.
ENCODER, DECODER = (32, 48, 64, 64), (64, 64, 48, 32)


@dataclass(frozen=True)
class RecurrentRecipe:
    """Everything that decides what comes out, apart from the data."""

    seed: int = 7
    minutes: float = 3.0
    blocks: int = 32  # of 32 x 32 pixels a step
    trained_iterations: int = 8
    iterations: int = 16  # that the exported codec can send
    bits: int = 8  # per position of 16 x 16 pixels
    rate: float = 2e-3


class ConvGru(nn.Module):
    """A convolutional gated recurrent unit; the input may be halved, the state is not."""

    def __init__(self, inputs: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        self.of_input = nn.Conv2d(inputs, 3 * channels, 3, stride, 1)
        self.of_state = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.of_reset = nn.Conv2d(channels, channels, 1, bias=False)

    def zeros(self, count: int, side: int) -> Tensor:
        """Return the states f32[count, channels, side, side] that a sequence begins with."""
        return torch.zeros(count, self.channels, side, side)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return the new state."""
        update, reset, fresh = self.of_input(inputs).chunk(3, 1)
        kept_update, kept_reset = self.of_state(state).chunk(2, 1)
        update, reset = torch.sigmoid(update + kept_update), torch.sigmoid(reset + kept_reset)
        fresh = torch.tanh(fresh + self.of_reset(reset * state))
        return state + update * (fresh - state)


class RecurrentEncoder(nn.Module):
    """Residual pixels in -1..1 become the activations that the code rounds."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, ENCODER[0], 3, 2, 1)
        self.cells = nn.ModuleList(ConvGru(a, b, 2) for a, b in zip(ENCODER, ENCODER[1:]))
        self.last = nn.Conv2d(ENCODER[-1], bits, 1)

    def states(self, count: int, side: int) -> list[Tensor]:
        """Return zero states for pixels of some side."""
        return [
            cell.zeros(count, side >> k)
            for k, cell in enumerate(cast(Iterable[ConvGru], self.cells), 2)
        ]

    def forward(self, residual: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return (activations [N, bits, S / 16, S / 16] in -1..1, new states)."""
        x, new = torch.tanh(self.first(residual)), []
        for cell, state in zip(self.cells, states):
            x = cell(x, state)
            new.append(x)
        return torch.tanh(self.last(x)), new


class RecurrentDecoder(nn.Module):
    """Codes of -1 and 1 become what is added to the image."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(bits, DECODER[0], 1)
        inputs = (DECODER[0], *(channels // 4 for channels in DECODER[:-1]))
        self.cells = nn.ModuleList(ConvGru(a, b) for a, b in zip(inputs, DECODER))
        self.last = nn.Conv2d(DECODER[-1] // 4, 3, 3, 1, 1)

    def states(self, count: int, side: int) -> list[Tensor]:
        """Return zero states for pixels of some side."""
        return [
            cell.zeros(count, side >> k)
            for k, cell in zip((4, 3, 2, 1), cast(Iterable[ConvGru], self.cells))
        ]

    def forward(self, code: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return (pixels [N, 3, S, S], new states)."""
        x, new = torch.tanh(self.first(code)), []
        for cell, state in zip(self.cells, states):
            state = cell(x, state)
            new.append(state)
            x = functional.pixel_shuffle(state, 2)
        return self.last(x), new


def binary(activations: Tensor) -> Tensor:
    """Return -1 or 1, at random in proportion, with the gradient of the activations."""
    drawn = torch.sign(activations - (2 * torch.rand_like(activations) - 1))
    drawn = torch.where(drawn == 0, torch.ones_like(drawn), drawn)
    return activations + (drawn - activations).detach()


class EncoderStep(nn.Module):
    """The exported encoder: one iteration, with the decoder that both sides follow."""

    def __init__(self, encoder: RecurrentEncoder, decoder: RecurrentDecoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, residual: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return (bits of 0 and 1, what is left over, *new states)."""
        split = len(self.encoder.cells)
        activations, new = self.encoder(residual, states[:split])
        bits = (activations > 0).float()
        made, more = self.decoder(2 * bits - 1, states[split:])
        return (bits, residual - made, *new, *more)


class DecoderStep(nn.Module):
    """The exported decoder: one iteration."""

    def __init__(self, decoder: RecurrentDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, bits: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return (pixels to add, *new states)."""
        made, new = self.decoder(2 * bits - 1, states)
        return (made, *new)


def _blocks(images: np.ndarray, count: int, rng: np.random.Generator) -> Tensor:
    result = np.empty((count, BLOCK, BLOCK, 3), np.uint8)
    for k in range(count):
        image = images[rng.integers(len(images))]
        top, left = rng.integers(0, image.shape[0] - BLOCK + 1, 2)
        result[k] = image[top : top + BLOCK, left : left + BLOCK]
    return torch.from_numpy(result).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_recurrent(
    encoder: RecurrentEncoder,
    decoder: RecurrentDecoder,
    images: np.ndarray,
    recipe: RecurrentRecipe,
    checkpoint: Path,
) -> TimedRun:
    """Fit both networks to u8[N, S, S, 3]; returns the finished TimedRun."""
    torch.manual_seed(recipe.seed)
    weights = [*encoder.parameters(), *decoder.parameters()]
    run = TimedRun(
        checkpoint,
        {'encoder': encoder, 'decoder': decoder},
        torch.optim.Adam(weights, lr=recipe.rate),
        recipe.minutes,
        recipe.seed,
        lambda step, done: min((step + 1) / 50, 1.02 - done),
    )
    while run.goes_on():
        residual = _blocks(images, recipe.blocks, run.rng)
        encoder_states = encoder.states(recipe.blocks, BLOCK)
        decoder_states = decoder.states(recipe.blocks, BLOCK)
        loss = torch.zeros(())
        for _ in range(recipe.trained_iterations):
            activations, encoder_states = encoder(residual, encoder_states)
            made, decoder_states = decoder(binary(activations), decoder_states)
            residual = residual - made
            loss = loss + residual.abs().mean()
        run.learn(loss / recipe.trained_iterations, error_at_the_end=residual.abs().mean())
    return run


def export_recurrent(
    encoder: RecurrentEncoder,
    decoder: RecurrentDecoder,
    code: RecurrentCode,
    references: Path,
    labels: Sequence[str],
) -> None:
    """Write the files of the codec and enter them into the reference folder."""
    encoder_states = encoder.states(1, code.side)
    decoder_states = decoder.states(1, code.side)
    first = [f'encoder_{k}' for k in range(len(encoder_states))]
    second = [f'decoder_{k}' for k in range(len(decoder_states))]
    new = [f'new_{name}' for name in (*first, *second)]
    pixels = torch.zeros(1, 3, code.side, code.side)
    bits = torch.zeros(1, code.bits, code.grid, code.grid)
    write_reference(
        references,
        'recurrent',
        (
            EncoderStep(encoder, decoder),
            [pixels, *encoder_states, *decoder_states],
            ['residual', *first, *second],
            ['bits', 'rest', *new],
        ),
        (
            DecoderStep(decoder),
            [bits, *decoder_states],
            ['bits', *second],
            ['pixels', *new[len(first) :]],
        ),
        code,
        labels,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = reference_parser(__doc__.split('\n')[1], RecurrentRecipe(), work='checkpoint')
    options = parser.parse_args(arguments)
    set_up_processor(options.threads)
    recipe = recipe_of(options, RecurrentRecipe)
    folder = ModelFolder(options.models)
    train = load_pictures(options.data, folder.labels, folder.image_size)
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    encoder, decoder = RecurrentEncoder(recipe.bits), RecurrentDecoder(recipe.bits)
    run = train_recurrent(encoder, decoder, train.images, recipe, options.work / 'recurrent.pt')
    code = RecurrentCode('recurrent', folder.image_size, recipe.iterations, recipe.bits)
    export_recurrent(encoder, decoder, code, options.references, folder.labels)
    pixels = torch.zeros(1, 3, code.side, code.side)
    states = [*encoder.states(1, code.side), *decoder.states(1, code.side)]
    write_card(
        options.references,
        'recurrent',
        {
            'role': 'recurrent',
            'recipe': asdict(recipe),
            'training_images': len(train.classes),
            'steps': run.step,
            'curve_end': run.curve[-1:],
            'parameters': sum(p.numel() for p in [*encoder.parameters(), *decoder.parameters()]),
            'macs_per_iteration': count_macs(EncoderStep(encoder, decoder), [pixels, *states]),
            'bytes_per_iteration': code.step_bytes,
        },
    )


if __name__ == '__main__':
    main()
