# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Encode a picture, and see what the edge answers after each so many bytes of the stream.

    scripts/env python examples/01_encode_and_decode.py [PICTURE]

The weak model's answer goes along as side information in the second column of answers. Without
a picture it takes the one that ships: a spring washer, which the weak model takes for a nut.
"""

from __future__ import annotations

import sys

from stl_conveyor import Classifier, Decoder, Encoder, ModelFolder, read_image, share_path
from stl_conveyor.vision.image import resize_square

SIZES = (32, 64, 128, 256, 512, 1024)


def main(arguments: list[str]) -> None:
    """Print what the weak and the strong model say, and a row for each size."""
    picture = arguments[0] if arguments else share_path('models/items/sample.png')
    folder = ModelFolder(share_path('models/items'))
    image = resize_square(read_image(picture), folder.image_size)

    def told(probabilities) -> str:
        return f'{folder.labels[probabilities.argmax()]} {probabilities.max():.2f}'

    weak = Classifier(folder.path('weak')).classify(image)
    strong = Classifier(folder.path('strong')).classify(image)
    print(f'weak model, on the device:     {told(weak)}')
    print(f'strong model, whole picture:   {told(strong)}, {image.nbytes} bytes of pixels')

    encoder, decoder = Encoder(folder), Decoder(folder)
    print(f'{"bytes":>6}  {"the stream alone":28}  with the weak answer')
    for size in SIZES:
        answers = []
        for side in (None, weak):
            session = decoder.start()
            for packet in encoder.encode(image, side, max_bytes=size).packets:
                session.add(packet)
            answers.append(told(decoder.classify([session])[0]))
        print(f'{size:6}  {answers[0]:28}  {answers[1]}')


if __name__ == '__main__':
    main(sys.argv[1:])
