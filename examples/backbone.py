"""A frozen backbone of keras.applications as encoder: write it as .keras, then export, serve, index and query as usual.

    python examples/backbone.py backbone.keras            # downloads ImageNet weights once
    ae-search export --encoder backbone.keras --to export/backbone

ae-search sends images in [0, 1]; MobileNetV3 scales [0, 255] by itself, hence the Rescaling layer. Other backbones have
a `preprocess_input` of their own, whose arithmetic belongs into such a layer, so that no client has to know it.
"""

import argparse

import keras
from keras import layers


def build(side_px: int, weights: str | None) -> keras.Model:
    """Build the encoder: images `[n, side_px, side_px, 3]` in [0, 1] to vectors `[n, 576]`."""
    backbone = keras.applications.MobileNetV3Small(
        input_shape=(side_px, side_px, 3), include_top=False, pooling="avg", weights=weights
    )
    backbone.trainable = False
    # === Functional Model ===
    image = keras.Input((side_px, side_px, 3), name="image")
    return keras.Model(image, backbone(layers.Rescaling(255.0)(image), training=False), name="encoder")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("to", metavar="FILE.keras")
    parser.add_argument("--side", type=int, default=224, help="px; 224 unless given")
    parser.add_argument("--weights", default="imagenet", help="imagenet, or none for random ones")
    arguments = parser.parse_args()
    build(arguments.side, None if arguments.weights == "none" else arguments.weights).save(arguments.to)
    print(f"wrote {arguments.to}")
